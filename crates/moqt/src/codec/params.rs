//! Message parameters: one engine that runs each draft's table ("Message Parameters").

use crate::{
    AuthToken, Fill, GroupOrder, InvalidFilter, Location, LocationFilter, Namespace, Parameters,
    ProtocolError, RangeField, RangeFilter, Reader, SessionCode, Version, Writer,
};

use super::EncodeError;
use super::fields::{MAX_TEXT, read_location, write_location};

/// A parameter as the model has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    ObjectDeliveryTimeout,
    AuthorizationToken,
    RendezvousTimeout,
    SubgroupDeliveryTimeout,
    Expires,
    LargestObject,
    FillTimeout,
    Forward,
    SubscriberPriority,
    Filter,
    GroupOrder,
    Fill,
    Range(RangeField),
    NewGroupRequest,
    TrackNamespacePrefix,
    IncludeProperties,
}

impl Slot {
    const ALL: [Self; 20] = [
        Self::ObjectDeliveryTimeout,
        Self::AuthorizationToken,
        Self::RendezvousTimeout,
        Self::SubgroupDeliveryTimeout,
        Self::Expires,
        Self::LargestObject,
        Self::FillTimeout,
        Self::Forward,
        Self::SubscriberPriority,
        Self::Filter,
        Self::GroupOrder,
        Self::Fill,
        Self::Range(RangeField::Subgroup),
        Self::Range(RangeField::Object),
        Self::Range(RangeField::Priority),
        Self::Range(RangeField::ObjectProperty(0)),
        Self::Range(RangeField::TrackProperty(0)),
        Self::NewGroupRequest,
        Self::TrackNamespacePrefix,
        Self::IncludeProperties,
    ];

    fn is_set(self, p: &Parameters) -> bool {
        match self {
            Self::ObjectDeliveryTimeout => p.object_delivery_timeout.is_some(),
            Self::AuthorizationToken => !p.authorization_tokens.is_empty(),
            Self::RendezvousTimeout => p.rendezvous_timeout.is_some(),
            Self::SubgroupDeliveryTimeout => p.subgroup_delivery_timeout.is_some(),
            Self::Expires => p.expires.is_some(),
            Self::LargestObject => p.largest_object.is_some(),
            Self::FillTimeout => p.fill_timeout.is_some(),
            Self::Forward => p.forward.is_some(),
            Self::SubscriberPriority => p.subscriber_priority.is_some(),
            Self::Filter => p.locations().is_some(),
            Self::GroupOrder => p.group_order.is_some(),
            Self::Fill => p.fill.is_some(),
            Self::Range(field) => ranges_of(p, field).next().is_some(),
            Self::NewGroupRequest => p.new_group_request.is_some(),
            Self::TrackNamespacePrefix => p.track_namespace_prefix.is_some(),
            Self::IncludeProperties => p.include_properties.is_some(),
        }
    }

    /// What the peer must not be left without: dropping it would change what is asked for. The
    /// others advise.
    fn essential(self) -> Option<&'static str> {
        match self {
            Self::AuthorizationToken => Some("an authorization token here"),
            Self::Forward => Some("FORWARD here"),
            Self::Filter => Some("a filter here"),
            Self::Fill => Some("FILL_PARAMETERS here"),
            Self::Range(_) => Some("a range filter here"),
            Self::TrackNamespacePrefix => Some("TRACK_NAMESPACE_PREFIX here"),
            _ => None,
        }
    }

    fn repeatable(self) -> bool {
        matches!(self, Self::AuthorizationToken | Self::Range(_))
    }
}

/// Whether two fields are one parameter: a property's type is part of the value.
fn same_parameter(a: RangeField, b: RangeField) -> bool {
    std::mem::discriminant(&a) == std::mem::discriminant(&b)
}

fn ranges_of(p: &Parameters, field: RangeField) -> impl Iterator<Item = &RangeFilter> {
    p.range_filters.iter().filter(move |filter| same_parameter(filter.field(), field))
}

/// How a draft writes the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Draft 16: key-value pairs, so odd types have a length and the others are integers.
    KeyValue,
    /// Draft 18: each parameter has its own encoding.
    Typed,
    /// Draft 22: also, and a filter says which fields follow.
    TypedFilter,
}

/// A parameter in a draft.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) kind: u64,
    pub(super) slot: Slot,
    /// The message types it may appear in. REQUEST_OK stands for every answer it serves as; which
    /// one it is, only the session knows.
    pub(super) allowed: &'static [u64],
}

/// A draft's parameters.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) version: Version,
    pub(super) form: Form,
    /// In ascending order of type.
    pub(super) rows: &'static [Row],
    /// What may stand inside FILL_PARAMETERS.
    pub(super) fill: &'static [u64],
}

/// Writes the parameters that a message of type `message` may have, counted.
pub(super) fn encode(
    table: &Table,
    message: u64,
    p: &Parameters,
    w: &mut Writer,
) -> Result<(), EncodeError> {
    for slot in Slot::ALL.into_iter().filter(|slot| slot.is_set(p)) {
        let fits = |row: &Row| row.slot == slot && row.allowed.contains(&message);
        if let (false, Some(what)) = (table.rows.iter().any(fits), slot.essential()) {
            return Err(EncodeError::NotInDraft { version: table.version, what });
        }
    }
    let rows = table.rows.iter().filter(|row| row.allowed.contains(&message));
    encode_rows(table, rows, p, w)
}

fn encode_rows<'a>(
    table: &Table,
    rows: impl Iterator<Item = &'a Row>,
    p: &Parameters,
    w: &mut Writer,
) -> Result<(), EncodeError> {
    let mut count = 0;
    let mut previous = 0;
    let mut body = w.nested();
    for row in rows.filter(|row| row.slot.is_set(p)) {
        let mut failure = None;
        let mut put = |value: &dyn Fn(&mut Writer) -> Result<(), EncodeError>| {
            body.int(row.kind - previous);
            previous = row.kind;
            count += 1;
            if let Err(error) = value(&mut body) {
                failure = Some(error);
            }
        };
        match row.slot {
            Slot::AuthorizationToken => {
                for token in &p.authorization_tokens {
                    put(&|w| {
                        w.prefixed_with(|w| token.encode(w));
                        Ok(())
                    });
                }
            }
            Slot::Range(field) => {
                for filter in ranges_of(p, field) {
                    put(&|w| {
                        w.prefixed_with(|w| filter.encode(w));
                        Ok(())
                    });
                }
            }
            slot => put(&|w| encode_value(table, slot, p, w)),
        }
        if let Some(error) = failure {
            return Err(error);
        }
    }
    w.int(count);
    w.append(&body);
    Ok(())
}

fn encode_value(
    table: &Table,
    slot: Slot,
    p: &Parameters,
    w: &mut Writer,
) -> Result<(), EncodeError> {
    let int = |w: &mut Writer, value: Option<u64>| w.int(value.unwrap_or_default());
    let byte = |w: &mut Writer, value: u8| match table.form {
        Form::KeyValue => w.int(value.into()),
        Form::Typed | Form::TypedFilter => w.u8(value),
    };
    match slot {
        Slot::ObjectDeliveryTimeout => int(w, p.object_delivery_timeout),
        Slot::RendezvousTimeout => int(w, p.rendezvous_timeout),
        Slot::SubgroupDeliveryTimeout => int(w, p.subgroup_delivery_timeout),
        Slot::Expires => int(w, p.expires),
        Slot::FillTimeout => int(w, p.fill_timeout),
        Slot::NewGroupRequest => int(w, p.new_group_request),
        Slot::Forward => byte(w, u8::from(p.forward.unwrap_or_default())),
        Slot::IncludeProperties => byte(w, u8::from(p.include_properties.unwrap_or_default())),
        Slot::SubscriberPriority => byte(w, p.subscriber_priority.unwrap_or_default()),
        Slot::GroupOrder => byte(
            w,
            match p.group_order {
                Some(GroupOrder::Descending) => 2,
                _ => 1,
            },
        ),
        Slot::LargestObject => {
            let largest = p.largest_object.unwrap_or_default();
            match table.form {
                Form::KeyValue => w.prefixed_with(|w| write_location(largest, w)),
                Form::Typed | Form::TypedFilter => write_location(largest, w),
            }
        }
        Slot::Filter => {
            encode_filter(table, p.locations().unwrap_or(LocationFilter::Unfiltered), w)?;
        }
        Slot::Fill => {
            if let Some(fill) = &p.fill {
                let mut nested = w.nested();
                encode_fill(table, fill, &mut nested)?;
                w.prefixed_with(|w| w.append(&nested));
            }
        }
        Slot::TrackNamespacePrefix => {
            if let Some(prefix) = &p.track_namespace_prefix {
                prefix.encode(w);
            }
        }
        Slot::AuthorizationToken | Slot::Range(_) => {}
    }
    Ok(())
}

/// "encoded as if they were Parameters for a separate message" ("FILL PARAMETERS Parameter").
fn encode_fill(table: &Table, fill: &Fill, w: &mut Writer) -> Result<(), EncodeError> {
    let mut p = Parameters {
        fill_timeout: fill.timeout,
        subscriber_priority: fill.subscriber_priority,
        group_order: fill.group_order,
        range_filters: fill.range_filters.clone(),
        ..Parameters::default()
    };
    p.set_locations(fill.filter);
    encode_rows(table, table.rows.iter().filter(|row| table.fill.contains(&row.kind)), &p, w)
}

fn encode_filter(table: &Table, filter: LocationFilter, w: &mut Writer) -> Result<(), EncodeError> {
    if let LocationFilter::AbsoluteRange { start, end_group: end }
    | LocationFilter::ObjectRange { start, end: Location { group: end, .. } } = filter
        && end < start.group
    {
        let what = "a filter whose last group is before its first";
        return Err(EncodeError::NotInDraft { version: table.version, what });
    }
    if table.form == Form::TypedFilter {
        encode_typed_filter(filter, w);
        return Ok(());
    }
    let end = |start: Location, end_group: u64| match table.form {
        Form::KeyValue => end_group,
        Form::Typed | Form::TypedFilter => end_group - start.group,
    };
    let not_in_draft = |what| EncodeError::NotInDraft { version: table.version, what };
    let mut value = w.nested();
    match filter {
        LocationFilter::NextGroupStart => value.int(1),
        LocationFilter::LargestObject => value.int(2),
        // "equivalent to an unfiltered subscription" ("Subscription Filters").
        LocationFilter::Unfiltered => {
            value.int(3);
            write_location(Location::FIRST, &mut value);
        }
        LocationFilter::AbsoluteStart { start } => {
            value.int(3);
            write_location(start, &mut value);
        }
        LocationFilter::AbsoluteRange { start, end_group } => {
            value.int(4);
            write_location(start, &mut value);
            value.int(end(start, end_group));
        }
        LocationFilter::RelativeStart { .. } => {
            return Err(not_in_draft("a filter from a group before the largest"));
        }
        LocationFilter::ObjectRange { .. } => {
            return Err(not_in_draft("a filter that ends inside a group"));
        }
    }
    w.prefixed_with(|w| w.append(&value));
    Ok(())
}

fn encode_typed_filter(filter: LocationFilter, w: &mut Writer) {
    match filter {
        LocationFilter::Unfiltered => w.int(0),
        LocationFilter::NextGroupStart => {
            w.int(1);
            w.int(0);
        }
        LocationFilter::RelativeStart { groups } => {
            w.int(1);
            w.int(groups.get());
        }
        LocationFilter::AbsoluteStart { start } => {
            w.int(2);
            write_location(start, w);
        }
        LocationFilter::AbsoluteRange { start, end_group } => {
            w.int(3);
            write_location(start, w);
            w.int(end_group - start.group);
        }
        LocationFilter::ObjectRange { start, end } => {
            w.int(4);
            write_location(start, w);
            w.int(end.group - start.group);
            w.int(end.object);
        }
        LocationFilter::LargestObject => w.int(5),
    }
}

/// Reads the parameters of a message of type `message`.
pub(super) fn decode(
    table: &Table,
    message: u64,
    r: &mut Reader,
) -> Result<Parameters, ProtocolError> {
    decode_rows(table, r, |row| {
        if row.allowed.contains(&message) {
            return Ok(true);
        }
        match table.form {
            // "If it appears in some other type of message, it MUST be ignored."
            Form::KeyValue => Ok(false),
            Form::Typed | Form::TypedFilter => Err(ProtocolError::violation(format!(
                "parameter {:#x} may not appear in message type {message:#x}",
                row.kind
            ))),
        }
    })
}

fn decode_rows(
    table: &Table,
    r: &mut Reader,
    wanted: impl Fn(&Row) -> Result<bool, ProtocolError>,
) -> Result<Parameters, ProtocolError> {
    let count = r.int("Number of Parameters")?;
    let mut p = Parameters::default();
    let mut kind = 0u64;
    for index in 0..count {
        let delta = r.int("Parameter Type")?;
        kind = kind
            .checked_add(delta)
            .ok_or_else(|| ProtocolError::violation("a parameter type exceeds 2^64-1"))?;
        let Some(row) = table.rows.iter().find(|row| row.kind == kind) else {
            return Err(ProtocolError::violation(format!("unknown message parameter {kind:#x}")));
        };
        if index > 0 && delta == 0 && !row.slot.repeatable() {
            return Err(ProtocolError::violation(format!("parameter {kind:#x} is repeated")));
        }
        if wanted(row)? {
            decode_value(table, row.slot, &mut p, r)?;
        } else {
            skip(kind, r)?;
        }
    }
    Ok(p)
}

/// Steps over a key-value pair's value.
fn skip(kind: u64, r: &mut Reader) -> Result<(), ProtocolError> {
    if kind.is_multiple_of(2) {
        r.int("parameter value").map(drop)
    } else {
        r.prefixed(MAX_TEXT, "parameter value").map(drop)
    }
}

fn decode_value(
    table: &Table,
    slot: Slot,
    p: &mut Parameters,
    r: &mut Reader,
) -> Result<(), ProtocolError> {
    let byte = |r: &mut Reader, name: &'static str| match table.form {
        Form::KeyValue => {
            let value = r.int(name)?;
            u8::try_from(value).map_err(|_| ProtocolError::violation(format!("{name} is {value}")))
        }
        Form::Typed | Form::TypedFilter => r.u8(name),
    };
    let flag = |r: &mut Reader, name: &'static str| match byte(r, name)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(ProtocolError::violation(format!("{name} is {other}"))),
    };
    match slot {
        Slot::ObjectDeliveryTimeout => {
            let value = r.int("DELIVERY_TIMEOUT")?;
            // Later drafts let 0 mean "none".
            if value == 0 && table.form == Form::KeyValue {
                return Err(ProtocolError::violation("DELIVERY_TIMEOUT is 0"));
            }
            p.object_delivery_timeout = Some(value);
        }
        Slot::AuthorizationToken => {
            let token = r.prefixed(MAX_TEXT, "AUTHORIZATION_TOKEN")?;
            p.authorization_tokens.push(AuthToken::decode(r.nested(token))?);
        }
        Slot::RendezvousTimeout => p.rendezvous_timeout = Some(r.int("RENDEZVOUS_TIMEOUT")?),
        Slot::SubgroupDeliveryTimeout => {
            p.subgroup_delivery_timeout = Some(r.int("SUBGROUP_DELIVERY_TIMEOUT")?);
        }
        Slot::Expires => p.expires = Some(r.int("EXPIRES")?),
        Slot::LargestObject => {
            p.largest_object = Some(match table.form {
                Form::KeyValue => {
                    let value = r.prefixed(MAX_TEXT, "LARGEST_OBJECT")?;
                    let mut value = r.nested(value);
                    let largest = read_location(&mut value, "LARGEST_OBJECT")
                        .map_err(|error| malformed(error.reason))?;
                    whole(&value, "LARGEST_OBJECT")?;
                    largest
                }
                Form::Typed | Form::TypedFilter => read_location(r, "LARGEST_OBJECT")?,
            });
        }
        Slot::FillTimeout => p.fill_timeout = Some(r.int("FILL_TIMEOUT")?),
        Slot::Forward => p.forward = Some(flag(r, "FORWARD")?),
        Slot::IncludeProperties => p.include_properties = Some(flag(r, "INCLUDE_PROPERTIES")?),
        Slot::SubscriberPriority => p.subscriber_priority = Some(byte(r, "SUBSCRIBER_PRIORITY")?),
        Slot::Filter => p.set_locations(Some(decode_filter(table, r)?)),
        Slot::GroupOrder => {
            p.group_order = Some(match byte(r, "GROUP_ORDER")? {
                1 => GroupOrder::Ascending,
                2 => GroupOrder::Descending,
                other => return Err(ProtocolError::violation(format!("GROUP_ORDER is {other}"))),
            });
        }
        Slot::Fill => {
            let value = r.prefixed(MAX_TEXT, "FILL_PARAMETERS")?;
            let (fill, invalid) = decode_fill(table, r.nested(value))?;
            p.fill = Some(Box::new(fill));
            p.invalid_filter = p.invalid_filter.or(invalid);
        }
        Slot::Range(field) => {
            let value = r.prefixed(MAX_TEXT, "range filter")?;
            match RangeFilter::decode(field, &mut r.nested(value))? {
                Ok(filter) => push_range(p, filter),
                Err(invalid) => p.invalid_filter = Some(invalid),
            }
        }
        Slot::NewGroupRequest => p.new_group_request = Some(r.int("NEW_GROUP_REQUEST")?),
        Slot::TrackNamespacePrefix => p.track_namespace_prefix = Some(Namespace::decode(r)?),
    }
    Ok(())
}

/// Most range filters taken of one message. Limits on ranges are counted by the session.
const MAX_RANGE_FILTERS: usize = 256;

fn push_range(p: &mut Parameters, filter: RangeFilter) {
    if p.range_filters.len() == MAX_RANGE_FILTERS {
        p.invalid_filter = Some(InvalidFilter("a message has too many filters"));
    } else if p.range_filters.iter().any(|other| other.identity() == filter.identity()) {
        p.invalid_filter = Some(InvalidFilter("a filter is repeated within its set"));
    } else {
        p.range_filters.push(filter);
    }
}

fn decode_fill(
    table: &Table,
    mut r: Reader,
) -> Result<(Fill, Option<InvalidFilter>), ProtocolError> {
    let p = decode_rows(table, &mut r, |row| {
        if table.fill.contains(&row.kind) {
            return Ok(true);
        }
        Err(ProtocolError::violation(format!(
            "parameter {:#x} may not appear in FILL_PARAMETERS",
            row.kind
        )))
    })?;
    whole(&r, "FILL_PARAMETERS")?;
    let fill = Fill {
        request: None,
        timeout: p.fill_timeout,
        subscriber_priority: p.subscriber_priority,
        filter: p.locations(),
        group_order: p.group_order,
        range_filters: p.range_filters,
    };
    Ok((fill, p.invalid_filter))
}

fn whole(r: &Reader, name: &'static str) -> Result<(), ProtocolError> {
    if r.is_empty() {
        return Ok(());
    }
    Err(malformed(format!("{name} has bytes after its last field")))
}

fn malformed(reason: impl Into<std::borrow::Cow<'static, str>>) -> ProtocolError {
    ProtocolError::new(SessionCode::KEY_VALUE_FORMATTING_ERROR, reason)
}

fn decode_filter(table: &Table, r: &mut Reader) -> Result<LocationFilter, ProtocolError> {
    if table.form == Form::TypedFilter {
        return decode_typed_filter(r);
    }
    let value = r.prefixed(MAX_TEXT, "SUBSCRIPTION_FILTER")?;
    let mut r = r.nested(value);
    let filter = match r.int("Filter Type")? {
        1 => LocationFilter::NextGroupStart,
        2 => LocationFilter::LargestObject,
        3 => LocationFilter::AbsoluteStart { start: read_location(&mut r, "Start Location")? },
        4 => {
            let start = read_location(&mut r, "Start Location")?;
            let end = r.int("End Group")?;
            let end_group = match table.form {
                Form::KeyValue if end < start.group => {
                    return Err(ProtocolError::violation("a filter ends before it starts"));
                }
                Form::KeyValue => end,
                Form::Typed | Form::TypedFilter => end_group(start, end)?,
            };
            LocationFilter::AbsoluteRange { start, end_group }
        }
        other => return Err(ProtocolError::violation(format!("unknown Filter Type {other:#x}"))),
    };
    if table.form == Form::KeyValue && !r.is_empty() {
        return Err(ProtocolError::violation("SUBSCRIPTION_FILTER has bytes after its last field"));
    }
    whole(&r, "SUBSCRIPTION_FILTER")?;
    Ok(filter)
}

fn decode_typed_filter(r: &mut Reader) -> Result<LocationFilter, ProtocolError> {
    Ok(match r.int("Location Filter Type")? {
        0 => LocationFilter::Unfiltered,
        1 => match std::num::NonZeroU64::new(r.int("StartGroup")?) {
            Some(groups) => LocationFilter::RelativeStart { groups },
            None => LocationFilter::NextGroupStart,
        },
        2 => LocationFilter::AbsoluteStart { start: read_location(r, "StartGroup")? },
        3 => {
            let start = read_location(r, "StartGroup")?;
            let end_group = end_group(start, r.int("EndGroupDelta")?)?;
            LocationFilter::AbsoluteRange { start, end_group }
        }
        4 => {
            let start = read_location(r, "StartGroup")?;
            let group = end_group(start, r.int("EndGroupDelta")?)?;
            let end = Location { group, object: r.int("EndObject")? };
            LocationFilter::ObjectRange { start, end }
        }
        5 => LocationFilter::LargestObject,
        other => {
            return Err(ProtocolError::violation(format!(
                "unknown Location Filter Type {other:#x}"
            )));
        }
    })
}

fn end_group(start: Location, delta: u64) -> Result<u64, ProtocolError> {
    start
        .group
        .checked_add(delta)
        .ok_or_else(|| ProtocolError::violation("the filter's End Group exceeds 2^64-1"))
}
