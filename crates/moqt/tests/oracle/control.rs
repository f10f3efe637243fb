//! Control messages.

use moqt::{Message, ProtocolError, SessionCode};
use moqtap_codec::dispatch::AnyControlMessage;
use moqtap_codec::error::CodecError;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::common::{Control, arbitrary, decode, encode, wire_form};
use super::*;

pub(super) fn agrees(
    version: Version,
    draft: DraftVersion,
    message: &Control,
) -> Result<(), TestCaseError> {
    let bytes = encode(version, message).unwrap();
    prop_assert_eq!(decode(version, &bytes), Ok(Some(message.clone())), "our own reading");
    let mut rest = &bytes[..];
    let theirs = match AnyControlMessage::decode(draft, &mut rest) {
        Ok(theirs) => theirs,
        Err(error) => {
            let hex = wire_form::hex(&bytes);
            return Err(TestCaseError::fail(format!("the oracle refuses {hex}: {error:?}")));
        }
    };
    prop_assert!(rest.is_empty(), "the oracle leaves {} bytes", rest.len());
    let (_, fields) = wire_form::control(version, message);
    prop_assert_eq!(json(theirs.fields()), fields);
    let mut again = Vec::new();
    theirs.encode(&mut again).unwrap();
    prop_assert_eq!(wire_form::hex(&again), wire_form::hex(&bytes), "the oracle's own bytes");
    Ok(())
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn draft_16_messages_mean_the_same(message in arbitrary::control(Version::Draft16)) {
        agrees(Version::Draft16, DraftVersion::Draft16, &message)?;
    }

    #[test]
    fn draft_18_messages_mean_the_same(message in arbitrary::control(Version::Draft18)) {
        agrees(Version::Draft18, DraftVersion::Draft18, &message)?;
    }

    #[test]
    fn draft_22_messages_mean_the_same(message in arbitrary::control(Version::Draft22)) {
        agrees(Version::Draft22, DraftVersion::Draft22, &message)?;
    }
}

/// Damage to a message's payload; the length before it is mended, so that it is judged by its
/// content.
#[derive(Clone, Debug)]
struct Damage {
    at: prop::sample::Index,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    Replace(u8),
    Insert(u8),
    Remove,
}

fn damage() -> impl Strategy<Value = Damage> {
    // Small numbers are lengths, counts and types.
    let byte = || prop_oneof![2 => 0u8..0x40, 1 => any::<u8>()];
    let how = prop_oneof![
        3 => byte().prop_map(How::Replace),
        1 => byte().prop_map(How::Insert),
        1 => Just(How::Remove),
    ];
    (any::<prop::sample::Index>(), how).prop_map(|(at, how)| Damage { at, how })
}

fn apply(version: Version, bytes: &[u8], damage: &[Damage]) -> Vec<u8> {
    let (_, kind) = version.int_coding().read(bytes).unwrap();
    let mut payload = bytes[kind + 2..].to_vec();
    for Damage { at, how } in damage {
        if payload.is_empty() {
            break;
        }
        let at = at.index(payload.len());
        match how {
            How::Replace(byte) => payload[at] = *byte,
            How::Insert(byte) => payload.insert(at, *byte),
            How::Remove => {
                payload.remove(at);
            }
        }
    }
    let mut damaged = bytes[..kind].to_vec();
    damaged.extend((payload.len() as u16).to_be_bytes());
    damaged.extend(payload);
    damaged
}

fn judged_alike(
    version: Version,
    draft: DraftVersion,
    message: &Control,
    damage: &[Damage],
) -> Result<(), TestCaseError> {
    let bytes = apply(version, &encode(version, message).unwrap(), damage);
    let ours = decode(version, &bytes);
    let mut rest = &bytes[..];
    let theirs = AnyControlMessage::decode(draft, &mut rest);
    let hex = wire_form::hex(&bytes);
    match (ours, theirs) {
        (Err(_), Err(_)) => {}
        (Ok(Some(ours)), Ok(theirs)) => {
            // What was written otherwise than we would, or holds what we ignore, has other fields.
            if encode(version, &ours).is_ok_and(|again| again == bytes) {
                let (_, fields) = wire_form::control(version, &ours);
                prop_assert_eq!(json(theirs.fields()), fields, "{}", hex);
            }
        }
        (Err(ours), Ok(_)) if we_may_refuse(version, &ours) => {}
        (Ok(Some(ours)), Err(theirs)) if they_may_refuse(version, &ours, &theirs) => {}
        (ours, theirs) => {
            return Err(TestCaseError::fail(format!("{hex}: ours {ours:?}, theirs {theirs:?}")));
        }
    }
    Ok(())
}

/// Where we close and the oracle does not.
fn we_may_refuse(version: Version, error: &ProtocolError) -> bool {
    let reason = &error.reason;
    let draft_16 = version == Version::Draft16;
    // "FETCH_OK": End Of Track is 1 or 0, and no draft gives another value a meaning.
    reason.starts_with("End Of Track is")
        // "SUBSCRIBE_NAMESPACE": Subscribe Options has three values.
        || draft_16 && reason.starts_with("Subscribe Options is")
        // "Subscription Filters": End Group MUST NOT be smaller than the start's.
        || draft_16 && reason.contains("filter ends before it starts")
        // "Key-Value-Pair Structure": a value that is not what its type says MUST close with
        // KEY_VALUE_FORMATTING_ERROR; the oracle keeps LARGEST_OBJECT as bytes.
        || draft_16
            && error.code == SessionCode::KEY_VALUE_FORMATTING_ERROR
            && reason.contains("LARGEST_OBJECT")
        // "Range Filter Structure": the oracle keeps the value as bytes.
        || version == Version::Draft22 && reason.contains("message ends inside Range")
        || version == Version::Draft22 && reason.contains("message ends inside SetID")
        || version == Version::Draft22 && reason.contains("message ends inside Property Type")
}

/// Where the oracle closes and we do not.
fn they_may_refuse(version: Version, message: &Control, error: &CodecError) -> bool {
    match error {
        // "Fetch Handling": a range that ends before it starts is asked for in vain; no draft says
        // that the session ends with it. Ours refuses the request.
        CodecError::InvalidRange(..) => true,
        // "Key-Value-Pair Structure": types go up to 2^64-1, though draft 16's integers do not.
        CodecError::KeyDeltaOverflow(..) => version == Version::Draft16,
        // "Message Parameters" of draft 16: in a message that may not have it, a parameter "MUST
        // be ignored", whatever its value.
        CodecError::ParameterValueOutOfRange { .. }
        | CodecError::KeyValueFormatting { .. }
        | CodecError::SubscriptionFilterMalformed { .. }
        | CodecError::InvalidFilterType(_) => version == Version::Draft16,
        // "Range Filters", "PRIORITY FILTER Parameter": INVALID_FILTER is for the request.
        _ => match message {
            Control::Streams(Message::Request { request, .. }) => {
                wire_form::parameters(request).invalid_filter.is_some()
            }
            Control::Streams(Message::Update(update)) => update.parameters.invalid_filter.is_some(),
            _ => false,
        },
    }
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn damaged_draft_16_messages_are_judged_alike(
        message in arbitrary::control(Version::Draft16), damage in prop::collection::vec(damage(), 1..4),
    ) {
        judged_alike(Version::Draft16, DraftVersion::Draft16, &message, &damage)?;
    }

    #[test]
    fn damaged_draft_18_messages_are_judged_alike(
        message in arbitrary::control(Version::Draft18), damage in prop::collection::vec(damage(), 1..4),
    ) {
        judged_alike(Version::Draft18, DraftVersion::Draft18, &message, &damage)?;
    }

    #[test]
    fn damaged_draft_22_messages_are_judged_alike(
        message in arbitrary::control(Version::Draft22), damage in prop::collection::vec(damage(), 1..4),
    ) {
        judged_alike(Version::Draft22, DraftVersion::Draft22, &message, &damage)?;
    }
}
