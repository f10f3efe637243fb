//! GOAWAY and redirects move a publisher, and nothing is lost on the way.

use std::collections::BTreeSet;
use std::time::Duration;

use moqt::{
    Event, FullTrackName, Namespace, Parameters, Properties, Redirect, Request, RequestError,
    RequestErrorCode, Response, Setup, SubscribeOk, Transport, Version,
};
use transport::publish::{Broadcast, PublishStatus, TrackOptions};
use transport::subscribe::{Refusal, Subscriber, Subscription, Want};
use transport::{Driver, DriverEvent, Endpoint, Limits};

use crate::common::{Publishing, Server, check, every, namespace, speaking, track, within, write};

/// Takes objects up to group `last`, and remembers the groups.
async fn groups(subscription: &mut Subscription, last: u64, seen: &mut BTreeSet<u64>) {
    loop {
        let object = within("object", subscription.next_object()).await.unwrap();
        check(&object);
        seen.insert(object.location.group);
        if object.location.group == last {
            return;
        }
    }
}

#[tokio::test]
async fn a_publisher_follows_goaway_without_losing_a_group() {
    for (version, transport) in every() {
        for elsewhere in [true, false] {
            follows_goaway(version, transport, elsewhere).await;
        }
    }
}

async fn follows_goaway(version: Version, transport: Transport, elsewhere: bool) {
    let old = Server::new(speaking(Version::ALL));
    let other = Server::with_identity_of(&old, speaking(Version::ALL));
    let new = if elsewhere { &other } else { &old };
    let broadcast = Broadcast::new(namespace());
    let mut video = broadcast.create_track("video", TrackOptions::default());
    let mut publishing = Publishing::start(&broadcast, &old, version, transport);
    let leaving = old.subscriber().await;
    let subscribe = leaving.subscribe(track("video"), Want::default());
    let mut first = within("SUBSCRIBE_OK", subscribe).await.unwrap();
    let (mut seen, mut next) = (BTreeSet::new(), 0);
    let mut write_group = |next: &mut u64| {
        video.begin_group(*next);
        write(&mut video, *next, 0, 0);
        *next += 1;
    };
    write_group(&mut next);
    groups(&mut first, 0, &mut seen).await;

    let uri = if elsewhere { new.url(transport).to_string() } else { String::new() };
    leaving.go_away(uri, Duration::from_secs(20)).await;
    write_group(&mut next);
    let coming = new.subscriber().await;
    assert_eq!(coming.connection().version(), version);
    // The old session goes on while the new one is not subscribed to yet, and after.
    write_group(&mut next);
    groups(&mut first, 2, &mut seen).await;
    let subscribe = coming.subscribe(track("video"), Want::default());
    let mut second = within("SUBSCRIBE_OK", subscribe).await.unwrap();
    write_group(&mut next);
    groups(&mut first, 3, &mut seen).await;
    groups(&mut second, 3, &mut seen).await;
    // Nobody is subscribed at the old relay any more, so the publisher leaves it.
    drop(first);
    within("the old session's end", leaving.connection().closed()).await;
    write_group(&mut next);
    groups(&mut second, 4, &mut seen).await;
    assert_eq!(seen, (0..5).collect(), "{version} {transport:?}");
    let mut connected = 0;
    while let Ok(status) = publishing.status.try_recv() {
        connected += usize::from(matches!(status, PublishStatus::Connected { .. }));
        assert!(!matches!(status, PublishStatus::Lost { .. }), "{version}: {status:?}");
    }
    assert_eq!(connected, 2, "{version} {transport:?}");
}

#[tokio::test]
async fn a_redirect_is_followed_to_another_relay_and_name() {
    // Draft 16 has no redirect.
    for (version, transport) in every().filter(|(version, _)| *version > Version::Draft16) {
        let old = Server::new(speaking(Version::ALL));
        let new = Server::with_identity_of(&old, speaking(Version::ALL));
        let broadcast = Broadcast::new(namespace());
        let mut video = broadcast.create_track("video", TrackOptions::default());
        video.begin_group(0);
        write(&mut video, 0, 0, 0);
        let _publishing = Publishing::start(&broadcast, &old, version, transport);
        let renamed = Namespace::from_path("region/live/cam").unwrap();
        let redirect = Redirect {
            uri: new.url(transport).to_string().into(),
            track: FullTrackName::new(renamed.clone(), "").unwrap(),
        };
        let mut driver = Driver::new(old.accept().await, Setup::default(), Limits::default());
        let redirected = async {
            loop {
                let Ok(event) = driver.next().await else { return };
                let DriverEvent::Session(Event::Requested { id, request }) = event else {
                    continue;
                };
                assert!(matches!(request, Request::PublishNamespace(_)));
                let error = RequestError {
                    redirect: Some(redirect.clone()),
                    ..RequestError::new(RequestErrorCode::REDIRECT, "not here")
                };
                driver.session_mut().respond(id, Response::Error(error)).unwrap();
            }
        };
        let arrived = async {
            let subscriber = new.subscriber().await;
            let name = FullTrackName::new(renamed.clone(), "video").unwrap();
            let subscribe = subscriber.subscribe(name, Want::default());
            let mut subscription = within("SUBSCRIBE_OK", subscribe).await.unwrap();
            check(&within("object", subscription.next_object()).await.unwrap());
        };
        within("the redirect", async { tokio::join!(redirected, arrived) }).await;
    }
}

#[tokio::test]
async fn a_subscriber_follows_a_redirect_and_leaves_a_circle() {
    for (version, transport) in every().filter(|(version, _)| *version > Version::Draft16) {
        let server = Server::new(speaking(Version::ALL));
        let client = Endpoint::client(speaking(&[version])).unwrap();
        let url = server.url(transport);
        let to = |name: &str| Redirect { uri: url.to_string().into(), track: track(name) };
        // "old" is to be had as "new"; "here" as "there", and that as "here".
        let relay = async {
            loop {
                let mut driver =
                    Driver::new(server.accept().await, Setup::default(), Limits::default());
                while let Ok(event) = driver.next().await {
                    let DriverEvent::Session(Event::Requested { id, request }) = event else {
                        continue;
                    };
                    let Request::Subscribe(subscribe) = request else { panic!("{request:?}") };
                    let redirect = match &subscribe.track.name()[..] {
                        b"old" => to("new"),
                        b"here" => to("there"),
                        b"there" => to("here"),
                        _ => {
                            let ok = SubscribeOk {
                                track_alias: 1,
                                parameters: Parameters::default(),
                                properties: Properties::default(),
                            };
                            driver.session_mut().respond(id, Response::SubscribeOk(ok)).unwrap();
                            continue;
                        }
                    };
                    let error = RequestError {
                        redirect: Some(redirect),
                        ..RequestError::new(RequestErrorCode::REDIRECT, "not here")
                    };
                    driver.session_mut().respond(id, Response::Error(error)).unwrap();
                }
            }
        };
        let find =
            |name| Subscriber::find(&client, &url, &server.tls, track(name), Want::default());
        let found = async {
            let (subscriber, subscription) = find("old").await.unwrap();
            assert_eq!(subscription.accepted().track_alias, 1);
            subscriber.close();
            find("here").await.map(drop)
        };
        let lost = within("an answer", async {
            tokio::select! {
                found = found => found,
                () = relay => unreachable!(),
            }
        });
        assert!(matches!(lost.await, Err(Refusal::Redirects)), "{version}");
    }
}
