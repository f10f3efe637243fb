#![expect(clippy::disallowed_methods, reason = "a test has to begin at some instant")]

use super::*;

const PUBLISHER: SessionId = SessionId(1);
const VIEWER: SessionId = SessionId(2);
const PARENT: SessionId = SessionId(3);

fn ns(path: &str) -> Namespace {
    Namespace::from_path(path).unwrap()
}

fn video() -> FullTrackName {
    FullTrackName::new(ns("live/cam1"), "video0").unwrap()
}

fn router(now: Instant) -> Router {
    let mut router = Router::new(RouterConfig::default());
    router.handle_session(VIEWER, Peer::Client, now);
    router
}

fn drain(router: &mut Router) -> Vec<RouteAction> {
    std::iter::from_fn(|| router.poll_action()).collect()
}

fn refused() -> RequestError {
    RequestError::new(RequestErrorCode::DOES_NOT_EXIST, "no")
}

#[test]
fn many_viewers_cost_one_upstream_subscription_and_the_last_releases_it() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_session(PUBLISHER, Peer::Client, now);
    router.handle_publish_namespace(PUBLISHER, 0, &ns("live/cam1"), now).unwrap();
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, now);
    router.handle_subscribe(VIEWER, 2, &video(), Duration::ZERO, now);
    assert_eq!(drain(&mut router), [RouteAction::Subscribe(PUBLISHER, TrackId(0), video())]);
    router.handle_upstream_ok(PUBLISHER, TrackId(0));
    assert_eq!(
        drain(&mut router),
        [RouteAction::Accept(VIEWER, 0, TrackId(0)), RouteAction::Accept(VIEWER, 2, TrackId(0)),]
    );
    router.handle_unsubscribe(VIEWER, 0, TrackId(0));
    assert_eq!(drain(&mut router), []);
    router.handle_unsubscribe(VIEWER, 2, TrackId(0));
    assert_eq!(
        drain(&mut router),
        [RouteAction::Unsubscribe(PUBLISHER, TrackId(0)), RouteAction::Forget(TrackId(0)),]
    );
}

#[test]
fn without_a_publisher_a_subscription_is_refused_or_waits_as_it_asked() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, now);
    let actions = drain(&mut router);
    let RouteAction::Reject(VIEWER, 0, error) = &actions[0] else { panic!("{actions:?}") };
    assert_eq!(error.code, RequestErrorCode::DOES_NOT_EXIST);

    router.handle_subscribe(VIEWER, 2, &video(), Duration::from_secs(5), now);
    assert_eq!(drain(&mut router), []);
    let at = router.poll_timeout().unwrap();
    assert_eq!(at, now + Duration::from_secs(5));
    router.handle_timeout(at);
    let actions = drain(&mut router);
    let RouteAction::Reject(VIEWER, 2, error) = &actions[0] else { panic!("{actions:?}") };
    assert_eq!(error.code, RequestErrorCode::TIMEOUT);
    assert_eq!(router.poll_timeout(), None);
}

#[test]
fn viewers_stay_when_their_publisher_goes_and_resume_when_it_is_back() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_session(PUBLISHER, Peer::Client, now);
    router.handle_publish_namespace(PUBLISHER, 0, &ns("live/cam1"), now).unwrap();
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, now);
    router.handle_upstream_ok(PUBLISHER, TrackId(0));
    drain(&mut router);
    router.handle_session_closed(PUBLISHER, now);
    assert_eq!(drain(&mut router), []);

    let back = SessionId(9);
    router.handle_session(back, Peer::Client, now);
    router.handle_publish_namespace(back, 0, &ns("live/cam1"), now).unwrap();
    assert_eq!(drain(&mut router), [RouteAction::Subscribe(back, TrackId(0), video())]);
    // Its tracks are not there yet: it is asked again.
    router.handle_upstream_error(back, TrackId(0), &refused(), now);
    assert_eq!(drain(&mut router), []);
    let at = router.poll_timeout().unwrap();
    router.handle_timeout(at);
    assert_eq!(drain(&mut router), [RouteAction::Subscribe(back, TrackId(0), video())]);
    router.handle_upstream_ok(back, TrackId(0));
    assert_eq!(drain(&mut router), [], "the viewer was accepted long ago");
}

#[test]
fn a_publisher_that_never_comes_back_ends_the_subscription_after_the_linger() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_session(PUBLISHER, Peer::Client, now);
    router.handle_publish_namespace(PUBLISHER, 0, &ns("live/cam1"), now).unwrap();
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, now);
    router.handle_upstream_ok(PUBLISHER, TrackId(0));
    router.handle_session_closed(PUBLISHER, now);
    drain(&mut router);
    let at = router.poll_timeout().unwrap();
    assert_eq!(at, now + RouterConfig::default().linger);
    router.handle_timeout(at);
    assert_eq!(
        drain(&mut router),
        [
            RouteAction::End(VIEWER, 0, TrackId(0), PublishDoneCode::TRACK_ENDED),
            RouteAction::Forget(TrackId(0)),
        ]
    );
}

#[test]
fn what_nobody_here_publishes_is_asked_of_the_parent_and_ours_is_announced_to_it() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_session(PUBLISHER, Peer::Client, now);
    router.handle_publish_namespace(PUBLISHER, 0, &ns("live/here"), now).unwrap();
    router.handle_session(PARENT, Peer::Uplink, now);
    assert_eq!(drain(&mut router), [RouteAction::Announce(PARENT, ns("live/here"))]);
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, now);
    assert_eq!(drain(&mut router), [RouteAction::Subscribe(PARENT, TrackId(0), video())]);
    // The parent's echo of our own namespace is not news, and is never asked back of it.
    router.handle_subscribe_namespace(VIEWER, 4, &Namespace::default());
    assert_eq!(drain(&mut router), [RouteAction::Namespace(VIEWER, 4, ns("live/here"))]);
    router.handle_uplink_namespace(&ns("live/here"), true, now);
    router.handle_uplink_namespace(&ns("live/cam1"), true, now);
    assert_eq!(drain(&mut router), [RouteAction::Namespace(VIEWER, 4, ns("live/cam1"))]);
    router.handle_session_closed(PARENT, now);
    assert_eq!(drain(&mut router), [RouteAction::NamespaceDone(VIEWER, 4, ns("live/cam1"))]);
}

#[test]
fn the_parents_own_subscription_is_never_sent_back_to_it() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_session(PARENT, Peer::Uplink, now);
    router.handle_subscribe(PARENT, 1, &video(), Duration::ZERO, now);
    let actions = drain(&mut router);
    assert!(matches!(actions[0], RouteAction::Reject(PARENT, 1, _)), "{actions:?}");
}

#[test]
fn a_track_that_ended_ends_below_too() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_session(PUBLISHER, Peer::Client, now);
    router.handle_publish_namespace(PUBLISHER, 0, &ns("live"), now).unwrap();
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, now);
    router.handle_upstream_ok(PUBLISHER, TrackId(0));
    drain(&mut router);
    router.handle_upstream_done(PUBLISHER, TrackId(0), PublishDoneCode::TRACK_ENDED, now);
    let code = PublishDoneCode::TRACK_ENDED;
    assert_eq!(
        drain(&mut router),
        [RouteAction::End(VIEWER, 0, TrackId(0), code), RouteAction::Forget(TrackId(0)),]
    );
}

#[test]
fn only_relays_report_below_weir() {
    let now = Instant::now();
    let mut router = router(now);
    let node = SessionId(10);
    router.handle_session(node, Peer::Node, now);
    let edge = ns("weir/nodes/edge");
    let refused = router.handle_publish_namespace(VIEWER, 0, &edge, now).unwrap_err();
    assert_eq!(refused.code, RequestErrorCode::UNAUTHORIZED);
    assert!(router.handle_publish_namespace(node, 0, &ns("weir"), now).is_err());
    assert!(router.handle_publish_namespace(node, 2, &edge, now).is_ok());
}

#[test]
fn a_restarted_publisher_takes_over_while_its_old_session_still_seems_alive() {
    let now = Instant::now();
    let mut router = router(now);
    let back = SessionId(9);
    router.handle_session(PUBLISHER, Peer::Client, now);
    router.handle_publish_namespace(PUBLISHER, 0, &ns("live/cam1"), now).unwrap();
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, now);
    router.handle_upstream_ok(PUBLISHER, TrackId(0));
    drain(&mut router);
    router.handle_session(back, Peer::Client, now);
    router.handle_publish_namespace(back, 0, &ns("live/cam1"), now).unwrap();
    assert_eq!(drain(&mut router), [RouteAction::Subscribe(back, TrackId(0), video())]);
    // It may not have the track: then nothing changes.
    router.handle_upstream_error(back, TrackId(0), &refused(), now);
    assert_eq!(drain(&mut router), []);
    router.handle_publish_namespace(back, 2, &ns("live/cam1"), now).unwrap();
    drain(&mut router);
    router.handle_upstream_ok(back, TrackId(0));
    assert_eq!(drain(&mut router), [RouteAction::Unsubscribe(PUBLISHER, TrackId(0))]);
    router.handle_session_closed(PUBLISHER, now);
    assert_eq!(drain(&mut router), []);
}
