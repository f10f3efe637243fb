//! draft-ietf-moq-transport-18.

use super::kind::{
    FETCH, FETCH_OK, GOAWAY, NAMESPACE, NAMESPACE_DONE, PUBLISH, PUBLISH_BLOCKED, PUBLISH_DONE,
    PUBLISH_NAMESPACE, PUBLISH_OK, REQUEST_ERROR, REQUEST_OK, REQUEST_UPDATE, SETUP, SUBSCRIBE,
    SUBSCRIBE_NAMESPACE, SUBSCRIBE_OK, SUBSCRIBE_TRACKS, TRACK_STATUS,
};
use super::params::{Form, Row, Slot, Table};
use super::streams::Dialect;
use crate::Version;

pub(super) static DIALECT: Dialect = Dialect {
    version: Version::Draft18,
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
        PUBLISH_OK,
        SUBSCRIBE_NAMESPACE,
        SUBSCRIBE_TRACKS,
        SETUP,
    ],
    parameters: Table {
        version: Version::Draft18,
        form: Form::Typed,
        rows: &[
            Row {
                kind: 0x02,
                slot: Slot::ObjectDeliveryTimeout,
                allowed: &[REQUEST_OK, SUBSCRIBE, REQUEST_UPDATE],
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
                allowed: &[REQUEST_OK, SUBSCRIBE, REQUEST_UPDATE],
            },
            Row { kind: 0x08, slot: Slot::Expires, allowed: &[SUBSCRIBE_OK, PUBLISH, REQUEST_OK] },
            Row {
                kind: 0x09,
                slot: Slot::LargestObject,
                allowed: &[SUBSCRIBE_OK, PUBLISH, REQUEST_OK],
            },
            Row { kind: 0x0a, slot: Slot::FillTimeout, allowed: &[FETCH] },
            Row {
                kind: 0x10,
                slot: Slot::Forward,
                allowed: &[SUBSCRIBE, REQUEST_UPDATE, PUBLISH, REQUEST_OK, SUBSCRIBE_TRACKS],
            },
            Row {
                kind: 0x20,
                slot: Slot::SubscriberPriority,
                allowed: &[SUBSCRIBE, FETCH, REQUEST_UPDATE, REQUEST_OK],
            },
            Row {
                kind: 0x21,
                slot: Slot::Filter,
                allowed: &[SUBSCRIBE, REQUEST_OK, REQUEST_UPDATE],
            },
            Row { kind: 0x22, slot: Slot::GroupOrder, allowed: &[SUBSCRIBE, REQUEST_OK, FETCH] },
            Row {
                kind: 0x32,
                slot: Slot::NewGroupRequest,
                allowed: &[REQUEST_OK, SUBSCRIBE, REQUEST_UPDATE],
            },
            Row { kind: 0x34, slot: Slot::TrackNamespacePrefix, allowed: &[REQUEST_UPDATE] },
        ],
        fill: &[],
    },
    goaway_names_request: true,
    fetch_by_filter: false,
};
