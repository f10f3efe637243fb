//! A subscriber on our own transport that tells all it hears.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use moqt::{
    Event, FullTrackName, GoAway, IntCoding, Limits, ObjectMark, ObjectScanner, Parameters,
    Properties, PublishDone, Request, RequestError, RequestId, ResetCode, Response, Setup,
    SubgroupHeader, SubgroupId, Subscribe, SubscribeOk,
};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use transport::{Driver, DriverEvent, Error, ReadError, RecvStream};
use url::Url;

use super::{Relay, broadcast, object, within};

/// What a subscriber was told.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A whole object.
    Object {
        group: u64,
        subgroup: u64,
        id: u64,
        properties: Properties,
        payload: Bytes,
    },
    /// A subgroup's stream was given up.
    Reset {
        group: u64,
        code: ResetCode,
    },
    Accepted(SubscribeOk),
    Refused(RequestError),
    Done(PublishDone),
    /// The subscription ended with no PUBLISH_DONE.
    Ended,
    GoAway(GoAway),
    /// The session is over.
    Lost(Error),
}

enum Order {
    Subscribe(FullTrackName, Box<Parameters>),
    Unsubscribe,
}

/// A session at a relay with at most one subscription.
pub(crate) struct Subscriber {
    heard: UnboundedReceiver<Heard>,
    orders: UnboundedSender<Order>,
}

impl Subscriber {
    /// Dials a URL of a relay.
    pub(crate) async fn connect(relay: &Relay, url: &Url) -> Self {
        let endpoint = broadcast::endpoint();
        let tls = relay.tls();
        let connection = within("a connection", endpoint.connect(url, &tls)).await.unwrap();
        let driver = Driver::new(connection, Setup::default(), Limits::default());
        let (tell, heard) = mpsc::unbounded_channel();
        let (orders, take) = mpsc::unbounded_channel();
        tokio::spawn(run(driver, take, tell));
        Self { heard, orders }
    }

    /// Dials and subscribes from the newest group's start; returns once the relay accepted.
    pub(crate) async fn subscribe(relay: &Relay, track: &FullTrackName) -> Self {
        let mut subscriber = Self::connect(relay, &relay.url()).await;
        subscriber.ask(track, Parameters::default());
        match subscriber.next().await {
            Heard::Accepted(_) => subscriber,
            other => panic!("the subscription was answered with {other:?}"),
        }
    }

    /// Sends SUBSCRIBE.
    pub(crate) fn ask(&self, track: &FullTrackName, parameters: Parameters) {
        self.orders.send(Order::Subscribe(track.clone(), Box::new(parameters))).unwrap();
    }

    /// Cancels the subscription.
    pub(crate) fn unsubscribe(&self) {
        self.orders.send(Order::Unsubscribe).unwrap();
    }

    /// The next thing heard.
    pub(crate) async fn next(&mut self) -> Heard {
        within("something to hear", self.heard.recv()).await.expect("the session's task runs")
    }

    /// The next thing heard is this object, bit by bit as it was published.
    pub(crate) async fn expect(&mut self, at: (u64, u64, u64)) {
        let heard = self.next().await;
        check(&heard, at);
    }

    /// Skips what was heard until object `at`, which must be bit by bit as it was published.
    pub(crate) async fn skip_to(&mut self, at: (u64, u64, u64)) {
        loop {
            match self.next().await {
                heard @ Heard::Object { group, subgroup, id, .. }
                    if (group, subgroup, id) == at =>
                {
                    return check(&heard, at);
                }
                Heard::Object { .. } | Heard::Reset { .. } => {}
                other => panic!("heard {other:?} while waiting for object {at:?}"),
            }
        }
    }
}

#[track_caller]
fn check(heard: &Heard, at: (u64, u64, u64)) {
    let Heard::Object { group, subgroup, id, properties, payload } = heard else {
        panic!("heard {heard:?} instead of object {at:?}");
    };
    assert_eq!((*group, *subgroup, *id), at);
    let (wanted_properties, wanted) = object(at);
    assert_eq!(*properties, wanted_properties, "properties of object {at:?}");
    assert!(*payload == wanted, "the payload of object {at:?} differs");
}

async fn run(
    mut driver: Driver,
    mut orders: UnboundedReceiver<Order>,
    tell: UnboundedSender<Heard>,
) {
    let mut subscription: Option<RequestId> = None;
    loop {
        let event = tokio::select! {
            event = driver.next() => event,
            order = orders.recv() => {
                match order {
                    Some(Order::Subscribe(track, parameters)) => {
                        let request = Request::Subscribe(Subscribe { track, parameters: *parameters });
                        subscription = Some(driver.session_mut().request(request).unwrap());
                    }
                    Some(Order::Unsubscribe) => {
                        let id = subscription.take().expect("there is a subscription");
                        driver.session_mut().cancel(id, ResetCode::CANCELLED);
                    }
                    None => return,
                }
                continue;
            }
        };
        let heard = match event {
            Ok(DriverEvent::Subgroup { header, head, stream, .. }) => {
                tokio::spawn(read(header, head, stream, tell.clone()));
                continue;
            }
            Ok(DriverEvent::Session(Event::Responded { response, .. })) => match response {
                Response::SubscribeOk(ok) => Heard::Accepted(ok),
                Response::Error(error) => Heard::Refused(error),
                Response::PublishDone(done) => Heard::Done(done),
                _ => continue,
            },
            Ok(DriverEvent::Session(Event::Ended { .. })) => Heard::Ended,
            Ok(DriverEvent::Session(Event::GoAway(goaway))) => Heard::GoAway(goaway),
            Ok(_) => continue,
            Err(error) => {
                let _ = tell.send(Heard::Lost(error));
                return;
            }
        };
        if tell.send(heard).is_err() {
            return;
        }
    }
}

/// Reads one subgroup stream into objects.
async fn read(
    header: SubgroupHeader,
    head: Bytes,
    mut stream: RecvStream,
    tell: UnboundedSender<Heard>,
) {
    let coding = IntCoding::LeadingOnes;
    let group = header.group;
    let mut scanner = ObjectScanner::new(&header, coding);
    let mut bytes = BytesMut::new();
    let mut marks: VecDeque<ObjectMark> = VecDeque::new();
    let mut first = None;
    let mut next = head;
    loop {
        bytes.extend_from_slice(&next);
        scanner.scan(&next, |mark| marks.push_back(mark)).expect("well-formed objects");
        while marks.front().is_some_and(|mark| mark.end() <= bytes.len() as u64) {
            let mark = marks.pop_front().expect("looked at just above");
            let first = *first.get_or_insert(mark.id);
            let object = Heard::Object {
                group,
                subgroup: match header.subgroup {
                    SubgroupId::Known(id) => id,
                    SubgroupId::FirstObject => first,
                },
                id: mark.id,
                payload: Bytes::copy_from_slice(
                    &bytes[mark.payload_start as usize..mark.end() as usize],
                ),
                properties: Properties::decode(mark.properties, coding).expect("properties"),
            };
            if tell.send(object).is_err() {
                return;
            }
        }
        next = match stream.read_chunk(64 * 1024).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return assert!(scanner.at_boundary(), "a FIN inside an object"),
            Err(ReadError::Reset(code)) => {
                let _ = tell.send(Heard::Reset { group, code });
                return;
            }
            Err(ReadError::Gone(_)) => return,
        };
    }
}
