//! draft-ietf-moq-transport-22.

use super::kind::{
    FETCH, FETCH_OK, GOAWAY, NAMESPACE, NAMESPACE_DONE, PUBLISH, PUBLISH_BLOCKED, PUBLISH_DONE,
    PUBLISH_NAMESPACE, PUBLISH_STATE_NOTIFY, REQUEST_ERROR, REQUEST_OK, REQUEST_UPDATE, SETUP,
    SUBSCRIBE, SUBSCRIBE_NAMESPACE, SUBSCRIBE_OK, SUBSCRIBE_TRACKS, TRACK_STATUS,
};
use super::params::{Form, Row, Slot, Table};
use super::streams::Dialect;
use crate::{RangeField, Version};

/// Where filters on objects may appear ("Range Filters").
const OBJECT_FILTERED: &[u64] = &[SUBSCRIBE, FETCH, SUBSCRIBE_TRACKS, REQUEST_UPDATE];

pub(super) static DIALECT: Dialect = Dialect {
    version: Version::Draft22,
    messages: &[
        REQUEST_UPDATE,
        SUBSCRIBE,
        SUBSCRIBE_OK,
        REQUEST_ERROR,
        PUBLISH_NAMESPACE,
        REQUEST_OK,
        NAMESPACE,
        PUBLISH_DONE,
        TRACK_STATUS,
        NAMESPACE_DONE,
        PUBLISH_BLOCKED,
        GOAWAY,
        FETCH,
        FETCH_OK,
        PUBLISH,
        PUBLISH_STATE_NOTIFY,
        SUBSCRIBE_NAMESPACE,
        SUBSCRIBE_TRACKS,
        SETUP,
    ],
    parameters: Table {
        version: Version::Draft22,
        form: Form::TypedFilter,
        rows: &[
            Row {
                kind: 0x02,
                slot: Slot::ObjectDeliveryTimeout,
                allowed: &[SUBSCRIBE, PUBLISH, REQUEST_UPDATE],
            },
            Row {
                kind: 0x03,
                slot: Slot::AuthorizationToken,
                allowed: &[
                    PUBLISH,
                    SUBSCRIBE,
                    REQUEST_UPDATE,
                    SUBSCRIBE_NAMESPACE,
                    SUBSCRIBE_TRACKS,
                    PUBLISH_NAMESPACE,
                    TRACK_STATUS,
                    FETCH,
                ],
            },
            Row { kind: 0x04, slot: Slot::RendezvousTimeout, allowed: &[SUBSCRIBE] },
            Row {
                kind: 0x06,
                slot: Slot::SubgroupDeliveryTimeout,
                allowed: &[SUBSCRIBE, PUBLISH, REQUEST_UPDATE],
            },
            Row { kind: 0x08, slot: Slot::Expires, allowed: &[SUBSCRIBE_OK, PUBLISH, REQUEST_OK] },
            Row {
                kind: 0x09,
                slot: Slot::LargestObject,
                allowed: &[SUBSCRIBE_OK, PUBLISH, REQUEST_OK, PUBLISH_STATE_NOTIFY],
            },
            Row { kind: 0x0a, slot: Slot::FillTimeout, allowed: &[FETCH] },
            Row {
                kind: 0x10,
                slot: Slot::Forward,
                allowed: &[
                    SUBSCRIBE,
                    REQUEST_UPDATE,
                    PUBLISH,
                    SUBSCRIBE_TRACKS,
                    PUBLISH_STATE_NOTIFY,
                ],
            },
            Row {
                kind: 0x20,
                slot: Slot::SubscriberPriority,
                allowed: &[SUBSCRIBE, PUBLISH, FETCH, REQUEST_UPDATE],
            },
            // "Parameters on SUBSCRIBE_TRACKS" lets it and FILL_PARAMETERS stand there, though
            // the message's own list does not name them.
            Row {
                kind: 0x21,
                slot: Slot::Filter,
                allowed: &[
                    FETCH,
                    SUBSCRIBE,
                    PUBLISH,
                    REQUEST_UPDATE,
                    PUBLISH_STATE_NOTIFY,
                    SUBSCRIBE_TRACKS,
                ],
            },
            Row {
                kind: 0x22,
                slot: Slot::GroupOrder,
                allowed: &[SUBSCRIBE, PUBLISH, SUBSCRIBE_TRACKS, FETCH],
            },
            Row {
                kind: 0x23,
                slot: Slot::Fill,
                allowed: &[SUBSCRIBE, REQUEST_UPDATE, SUBSCRIBE_TRACKS],
            },
            Row { kind: 0x25, slot: Slot::Range(RangeField::Subgroup), allowed: OBJECT_FILTERED },
            Row { kind: 0x26, slot: Slot::Range(RangeField::Object), allowed: OBJECT_FILTERED },
            Row { kind: 0x27, slot: Slot::Range(RangeField::Priority), allowed: OBJECT_FILTERED },
            Row {
                kind: 0x28,
                slot: Slot::Range(RangeField::ObjectProperty(0)),
                allowed: OBJECT_FILTERED,
            },
            Row {
                kind: 0x29,
                slot: Slot::Range(RangeField::TrackProperty(0)),
                allowed: &[SUBSCRIBE_TRACKS, REQUEST_UPDATE],
            },
            Row { kind: 0x32, slot: Slot::NewGroupRequest, allowed: &[SUBSCRIBE, REQUEST_UPDATE] },
            Row { kind: 0x34, slot: Slot::TrackNamespacePrefix, allowed: &[REQUEST_UPDATE] },
            Row {
                kind: 0x35,
                slot: Slot::IncludeProperties,
                allowed: &[SUBSCRIBE, TRACK_STATUS, FETCH, SUBSCRIBE_TRACKS],
            },
        ],
        fill: &[0x0a, 0x20, 0x21, 0x22, 0x25, 0x26, 0x27, 0x28],
    },
    goaway_names_request: false,
    fetch_by_filter: true,
};
