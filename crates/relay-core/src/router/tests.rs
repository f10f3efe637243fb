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
    let mut router = Router::new(RouterConfig { grace: Duration::ZERO, ..RouterConfig::default() });
    router.handle_session(VIEWER, Peer::Client, now);
    router
}

const TRACK: TrackId = TrackId(0);

/// What the router wants done. When a track begins, and when it has no source, goes without saying.
fn drain(router: &mut Router) -> Vec<RouteAction> {
    std::iter::from_fn(|| router.poll_action())
        .filter(|action| !matches!(action, RouteAction::Begin(..) | RouteAction::Offline(_)))
        .collect()
}

fn subscribe(id: SessionId) -> RouteAction {
    RouteAction::Subscribe(id, TRACK, Upstream { name: video(), new_group: None })
}

/// A router with a viewer that watches the video of a publisher that announced its namespace.
fn watched(now: Instant) -> Router {
    let mut router = router(now);
    router.handle_session(PUBLISHER, Peer::Client, now);
    router.handle_publish_namespace(PUBLISHER, 0, &ns("live/cam1"), now).unwrap();
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, None, now);
    router.handle_upstream_ok(PUBLISHER, TRACK);
    drain(&mut router);
    router
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
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, None, now);
    router.handle_subscribe(VIEWER, 2, &video(), Duration::ZERO, None, now);
    assert_eq!(drain(&mut router), [subscribe(PUBLISHER)]);
    router.handle_upstream_ok(PUBLISHER, TRACK);
    assert_eq!(
        drain(&mut router),
        [RouteAction::Accept(VIEWER, 0, TRACK), RouteAction::Accept(VIEWER, 2, TRACK),]
    );
    router.handle_unsubscribe(VIEWER, 0, TRACK);
    assert_eq!(drain(&mut router), []);
    router.handle_unsubscribe(VIEWER, 2, TRACK);
    assert_eq!(
        drain(&mut router),
        [RouteAction::Unsubscribe(PUBLISHER, TRACK), RouteAction::Forget(TRACK),]
    );
}

#[test]
fn without_a_publisher_a_subscription_is_refused_or_waits_as_it_asked() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, None, now);
    let actions = drain(&mut router);
    let RouteAction::Reject(VIEWER, 0, error) = &actions[0] else { panic!("{actions:?}") };
    assert_eq!(error.code, RequestErrorCode::DOES_NOT_EXIST);

    router.handle_subscribe(VIEWER, 2, &video(), Duration::from_secs(5), None, now);
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
    let mut router = watched(now);
    router.handle_session_closed(PUBLISHER, now);
    assert_eq!(drain(&mut router), []);

    let back = SessionId(9);
    router.handle_session(back, Peer::Client, now);
    router.handle_publish_namespace(back, 0, &ns("live/cam1"), now).unwrap();
    assert_eq!(drain(&mut router), [subscribe(back)]);
    // Its tracks are not there yet: it is asked again.
    router.handle_upstream_error(back, TRACK, &refused(), now);
    assert_eq!(drain(&mut router), []);
    let at = router.poll_timeout().unwrap();
    router.handle_timeout(at);
    assert_eq!(drain(&mut router), [subscribe(back)]);
    router.handle_upstream_ok(back, TRACK);
    assert_eq!(drain(&mut router), [], "the viewer was accepted long ago");
}

#[test]
fn a_publisher_that_never_comes_back_ends_the_subscription_after_the_linger() {
    let now = Instant::now();
    let mut router = watched(now);
    router.handle_session_closed(PUBLISHER, now);
    drain(&mut router);
    let at = router.poll_timeout().unwrap();
    assert_eq!(at, now + RouterConfig::default().linger);
    router.handle_timeout(at);
    assert_eq!(
        drain(&mut router),
        [
            RouteAction::End(VIEWER, 0, TRACK, PublishDoneCode::TRACK_ENDED),
            RouteAction::Forget(TRACK),
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
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, None, now);
    assert_eq!(drain(&mut router), [subscribe(PARENT)]);
    // The parent's echo of our own namespace is not news, and is never asked back of it.
    router.handle_subscribe_namespace(VIEWER, 4, &Namespace::default());
    assert_eq!(drain(&mut router), [RouteAction::Namespace(VIEWER, 4, ns("live/here"))]);
    router.handle_uplink_namespace(PARENT, &ns("live/here"), true, now);
    router.handle_uplink_namespace(PARENT, &ns("live/cam1"), true, now);
    assert_eq!(drain(&mut router), [RouteAction::Namespace(VIEWER, 4, ns("live/cam1"))]);
    router.handle_session_closed(PARENT, now);
    assert_eq!(drain(&mut router), [RouteAction::NamespaceDone(VIEWER, 4, ns("live/cam1"))]);
}

#[test]
fn the_parents_own_subscription_is_never_sent_back_to_it() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_session(PARENT, Peer::Uplink, now);
    router.handle_subscribe(PARENT, 1, &video(), Duration::ZERO, None, now);
    let actions = drain(&mut router);
    assert!(matches!(actions[0], RouteAction::Reject(PARENT, 1, _)), "{actions:?}");
}

#[test]
fn a_track_that_ended_ends_below_too() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_session(PUBLISHER, Peer::Client, now);
    router.handle_publish_namespace(PUBLISHER, 0, &ns("live"), now).unwrap();
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, None, now);
    router.handle_upstream_ok(PUBLISHER, TRACK);
    drain(&mut router);
    router.handle_upstream_done(PUBLISHER, TRACK, PublishDoneCode::TRACK_ENDED, now);
    let code = PublishDoneCode::TRACK_ENDED;
    assert_eq!(
        drain(&mut router),
        [RouteAction::End(VIEWER, 0, TRACK, code), RouteAction::Forget(TRACK),]
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
fn every_publisher_of_a_track_is_subscribed_to_and_any_may_leave() {
    let now = Instant::now();
    let mut router = watched(now);
    let second = SessionId(9);
    router.handle_session(second, Peer::Client, now);
    router.handle_publish_namespace(second, 0, &ns("live"), now).unwrap();
    assert_eq!(drain(&mut router), [subscribe(second)]);
    // It may not have the track: then nothing changes, until it says so again.
    router.handle_upstream_error(second, TRACK, &refused(), now);
    assert_eq!(drain(&mut router), []);
    router.handle_publish_namespace(second, 2, &ns("live/cam1"), now).unwrap();
    assert_eq!(drain(&mut router), [subscribe(second)]);
    router.handle_upstream_ok(second, TRACK);
    assert_eq!(drain(&mut router), []);

    // One says that the track is over, or breaks off: the other still has it.
    router.handle_upstream_done(PUBLISHER, TRACK, PublishDoneCode::TRACK_ENDED, now);
    router.handle_session_closed(PUBLISHER, now);
    assert_eq!(drain(&mut router), []);
    router.handle_upstream_done(second, TRACK, PublishDoneCode::TRACK_ENDED, now);
    let code = PublishDoneCode::TRACK_ENDED;
    assert_eq!(
        drain(&mut router),
        [RouteAction::End(VIEWER, 0, TRACK, code), RouteAction::Forget(TRACK)]
    );
}

#[test]
fn a_new_subscription_goes_to_all_who_publish_a_prefix_of_its_namespace() {
    let now = Instant::now();
    let mut router = router(now);
    let others = [SessionId(7), SessionId(8), SessionId(9)];
    for (id, namespace) in others.into_iter().zip(["live", "live/cam1", "live/cam2"]) {
        router.handle_session(id, Peer::Client, now);
        router.handle_publish_namespace(id, 0, &ns(namespace), now).unwrap();
    }
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, None, now);
    assert_eq!(drain(&mut router), [subscribe(others[1]), subscribe(others[0])]);
    router.handle_upstream_error(others[1], TRACK, &refused(), now);
    assert_eq!(drain(&mut router), [], "the other may still have it");
    router.handle_upstream_ok(others[0], TRACK);
    assert_eq!(drain(&mut router), [RouteAction::Accept(VIEWER, 0, TRACK)]);
}

#[test]
fn a_published_track_is_forwarded_while_somebody_wants_its_objects() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_session(PUBLISHER, Peer::Client, now);
    assert_eq!(router.handle_publish(PUBLISHER, &video(), now), Ok((TRACK, false)));
    assert_eq!(drain(&mut router), []);
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, None, now);
    assert_eq!(
        drain(&mut router),
        [RouteAction::Accept(VIEWER, 0, TRACK), RouteAction::Forward(PUBLISHER, TRACK, true)]
    );
    router.handle_forward(VIEWER, 0, TRACK, false);
    assert_eq!(drain(&mut router), [RouteAction::Forward(PUBLISHER, TRACK, false)]);
    router.handle_forward(VIEWER, 0, TRACK, true);
    router.handle_unsubscribe(VIEWER, 0, TRACK);
    assert_eq!(
        drain(&mut router),
        [
            RouteAction::Forward(PUBLISHER, TRACK, true),
            RouteAction::Forward(PUBLISHER, TRACK, false)
        ]
    );
    // The track is known for as long as it is published.
    assert_eq!(router.live_track(&video()), Some(TRACK));
    router.handle_upstream_done(PUBLISHER, TRACK, PublishDoneCode::TRACK_ENDED, now);
    assert_eq!(drain(&mut router), [RouteAction::Forget(TRACK)]);
    assert_eq!(router.namespaces().count(), 0);
}

#[test]
fn who_waits_for_a_track_gets_it_when_it_is_published() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_session(PUBLISHER, Peer::Client, now);
    router.handle_subscribe_tracks(VIEWER, 4, &ns("live"), true);
    router.handle_subscribe(VIEWER, 0, &video(), Duration::from_secs(5), None, now);
    assert_eq!(router.handle_publish(PUBLISHER, &video(), now), Ok((TRACK, true)));
    // And is not sent PUBLISH for it as well.
    assert_eq!(drain(&mut router), [RouteAction::Accept(VIEWER, 0, TRACK)]);
}

#[test]
fn a_published_track_is_offered_to_those_who_asked_for_such_but_not_to_its_publisher() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_session(PUBLISHER, Peer::Client, now);
    router.handle_subscribe_tracks(PUBLISHER, 4, &ns("live"), true);
    router.handle_subscribe_tracks(VIEWER, 4, &ns("live"), false);
    router.handle_publish(PUBLISHER, &video(), now).unwrap();
    let offer = |id| RouteAction::Offer(id, TRACK, video(), false);
    assert_eq!(drain(&mut router), [offer(VIEWER)]);
    assert!(router.handle_offered(VIEWER, 1, TRACK, false));
    assert_eq!(drain(&mut router), []);
    router.handle_forward(VIEWER, 1, TRACK, true);
    assert_eq!(drain(&mut router), [RouteAction::Forward(PUBLISHER, TRACK, true)]);
    // Whoever follows later is told of what there is.
    let late = SessionId(12);
    router.handle_session(late, Peer::Client, now);
    router.handle_subscribe_tracks(late, 0, &Namespace::default(), false);
    assert_eq!(drain(&mut router), [offer(late)]);
    // And, if it would not have it, again when it is published anew.
    router.handle_publish(SessionId(13), &video(), now).unwrap();
    assert_eq!(drain(&mut router), [offer(late)]);
    router.handle_upstream_done(SessionId(13), TRACK, PublishDoneCode::TRACK_ENDED, now);
    router.handle_upstream_done(PUBLISHER, TRACK, PublishDoneCode::TRACK_ENDED, now);
    let code = PublishDoneCode::TRACK_ENDED;
    assert_eq!(
        drain(&mut router),
        [RouteAction::End(VIEWER, 1, TRACK, code), RouteAction::Forget(TRACK)]
    );
    assert!(!router.handle_offered(late, 1, TRACK, true), "gone meanwhile");
}

#[test]
fn other_relays_are_followed_once_somebody_here_follows() {
    let now = Instant::now();
    let mut router = router(now);
    let child = SessionId(10);
    router.handle_session(child, Peer::Node, now);
    router.handle_session(PARENT, Peer::Uplink, now);
    assert_eq!(drain(&mut router), []);
    // A child's own wish is no reason: it would hear its own tracks.
    router.handle_subscribe_tracks(child, 0, &Namespace::default(), false);
    assert_eq!(drain(&mut router), []);
    router.handle_subscribe_tracks(VIEWER, 0, &ns("live"), true);
    let mut followed = drain(&mut router);
    followed.sort_by_key(|action| format!("{action:?}"));
    assert_eq!(followed, [RouteAction::Follow(child), RouteAction::Follow(PARENT)]);
    // What the parent publishes is not announced back to it.
    router.handle_publish(PARENT, &video(), now).unwrap();
    let mut told = drain(&mut router);
    told.sort_by_key(|action| format!("{action:?}"));
    assert_eq!(
        told,
        [
            RouteAction::Offer(child, TRACK, video(), false),
            RouteAction::Offer(VIEWER, TRACK, video(), true)
        ]
    );
}

#[test]
fn a_malformed_track_ends_for_everyone_and_may_be_asked_for_anew() {
    let now = Instant::now();
    let mut router = watched(now);
    router.handle_malformed(TRACK, now);
    assert_eq!(
        drain(&mut router),
        [
            RouteAction::Unsubscribe(PUBLISHER, TRACK),
            RouteAction::End(VIEWER, 0, TRACK, PublishDoneCode::MALFORMED_TRACK),
            RouteAction::Forget(TRACK),
        ]
    );
    router.handle_subscribe(VIEWER, 2, &video(), Duration::ZERO, None, now);
    assert!(matches!(drain(&mut router)[..], [RouteAction::Subscribe(PUBLISHER, TrackId(1), _)]));
}

#[test]
fn a_new_group_is_asked_for_once_until_it_comes() {
    let now = Instant::now();
    let mut router = watched(now);
    let asked = |wanted| [RouteAction::NewGroup(PUBLISHER, TRACK, wanted)];
    router.handle_new_group(TRACK, 0, Some(4), false);
    assert_eq!(drain(&mut router), [], "the track has no dynamic groups");
    router.handle_new_group(TRACK, 4, Some(4), true);
    assert_eq!(drain(&mut router), [], "group 4 is there");
    router.handle_new_group(TRACK, 5, Some(4), true);
    assert_eq!(drain(&mut router), asked(5));
    router.handle_new_group(TRACK, 5, Some(4), true);
    router.handle_new_group(TRACK, 0, Some(4), true);
    assert_eq!(drain(&mut router), [], "it is on its way");
    router.handle_new_group(TRACK, 0, Some(5), true);
    assert_eq!(drain(&mut router), asked(0));
}

#[test]
fn a_session_that_leaves_is_replaced_before_it_is_gone() {
    let now = Instant::now();
    let mut router = router(now);
    let next = SessionId(4);
    router.handle_session(PARENT, Peer::Uplink, now);
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, None, now);
    router.handle_upstream_ok(PARENT, TRACK);
    drain(&mut router);
    router.handle_going_away(PARENT, now);
    assert_eq!(drain(&mut router), []);
    router.handle_session(next, Peer::Uplink, now);
    assert_eq!(drain(&mut router), [subscribe(next)]);
    assert!(!router.is_relieved(PARENT));
    router.handle_upstream_ok(next, TRACK);
    assert!(router.is_relieved(PARENT));
    router.handle_session_closed(PARENT, now);
    assert_eq!(drain(&mut router), []);
}

#[test]
fn a_relay_is_not_asked_for_what_it_alone_wants() {
    let now = Instant::now();
    let mut router = router(now);
    let child = SessionId(10);
    router.handle_session(child, Peer::Node, now);
    router.handle_publish_namespace(child, 0, &ns("live/cam1"), now).unwrap();
    router.handle_subscribe(child, 2, &video(), Duration::ZERO, None, now);
    assert!(matches!(
        drain(&mut router)[..],
        [RouteAction::Reject(_, 2, _), RouteAction::Forget(_)]
    ));
    // A client may subscribe to what it publishes itself.
    router.handle_publish_namespace(VIEWER, 0, &ns("live/cam1"), now).unwrap();
    router.handle_subscribe(VIEWER, 2, &video(), Duration::ZERO, None, now);
    let asked = |action: &RouteAction| match action {
        RouteAction::Subscribe(id, ..) => *id,
        other => panic!("{other:?}"),
    };
    assert_eq!(drain(&mut router).iter().map(asked).collect::<Vec<_>>(), [child, VIEWER]);
    assert_eq!(router.source_of(&video(), child), Some(VIEWER));
}

#[test]
fn two_relays_with_publishers_of_one_track_do_not_keep_each_other_going() {
    let now = Instant::now();
    let mut router = watched(now);
    let child = SessionId(10);
    router.handle_session(child, Peer::Node, now);
    router.handle_publish_namespace(child, 0, &ns("live/cam1"), now).unwrap();
    assert_eq!(drain(&mut router), [subscribe(child)]);
    router.handle_upstream_ok(child, TRACK);
    // The child has a viewer of its own and asks us too.
    router.handle_subscribe(child, 2, &video(), Duration::ZERO, None, now);
    assert_eq!(drain(&mut router), [RouteAction::Accept(child, 2, TRACK)]);
    // Once only the child wants it, only our own publisher is a reason to go on.
    router.handle_unsubscribe(VIEWER, 0, TRACK);
    assert_eq!(drain(&mut router), [RouteAction::Unsubscribe(child, TRACK)]);
    router.handle_unsubscribe(child, 2, TRACK);
    let over = [RouteAction::Unsubscribe(PUBLISHER, TRACK), RouteAction::Forget(TRACK)];
    assert_eq!(drain(&mut router), over);
}

#[test]
fn a_relay_is_not_served_what_only_it_gives() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_session(PARENT, Peer::Uplink, now);
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, None, now);
    router.handle_upstream_ok(PARENT, TRACK);
    drain(&mut router);
    router.handle_subscribe(PARENT, 1, &video(), Duration::ZERO, None, now);
    let actions = drain(&mut router);
    let [RouteAction::Reject(PARENT, 1, error)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(error.code, RequestErrorCode::DOES_NOT_EXIST);
}

#[test]
fn a_publisher_that_never_answers_is_given_up() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_session(PUBLISHER, Peer::Client, now);
    router.handle_publish_namespace(PUBLISHER, 0, &ns("live/cam1"), now).unwrap();
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, None, now);
    drain(&mut router);
    let at = router.poll_timeout().unwrap();
    assert_eq!(at, now + RouterConfig::default().answer);
    router.handle_timeout(at);
    let actions = drain(&mut router);
    let [RouteAction::Unsubscribe(PUBLISHER, TRACK), RouteAction::Reject(VIEWER, 0, error), _] =
        &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(error.code, RequestErrorCode::TIMEOUT);
    assert_eq!(router.poll_timeout(), None);
}

#[test]
fn who_does_not_wait_hears_that_there_is_nothing_though_another_waits() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_subscribe(VIEWER, 0, &video(), Duration::from_secs(9), None, now);
    drain(&mut router);
    let later = now + Duration::from_secs(1);
    router.handle_subscribe(VIEWER, 2, &video(), Duration::ZERO, None, later);
    let actions = drain(&mut router);
    let [RouteAction::Reject(VIEWER, 2, error)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(error.code, RequestErrorCode::DOES_NOT_EXIST);
}

#[test]
fn what_an_upstream_has_against_us_is_not_the_viewers() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_session(PARENT, Peer::Uplink, now);
    for (theirs, ours) in [
        (RequestErrorCode::UNAUTHORIZED, RequestErrorCode::DOES_NOT_EXIST),
        (RequestErrorCode::REDIRECT, RequestErrorCode::DOES_NOT_EXIST),
        (RequestErrorCode::UNSUPPORTED_EXTENSION, RequestErrorCode::UNSUPPORTED_EXTENSION),
    ] {
        // Waiting does not help against these.
        router.handle_subscribe(VIEWER, 0, &video(), Duration::from_secs(9), None, now);
        let actions = drain(&mut router);
        let [RouteAction::Subscribe(PARENT, track, _)] = actions[..] else { panic!("{actions:?}") };
        router.handle_upstream_error(PARENT, track, &RequestError::new(theirs, "no"), now);
        let actions = drain(&mut router);
        let RouteAction::Reject(VIEWER, 0, error) = &actions[0] else { panic!("{actions:?}") };
        assert_eq!(error.code, ours);
        assert_eq!(error.redirect, None);
    }
}

#[test]
fn a_client_that_publishes_everything_is_not_asked_for_the_relays_reports() {
    let now = Instant::now();
    let mut router = router(now);
    router.handle_session(PUBLISHER, Peer::Client, now);
    router.handle_publish_namespace(PUBLISHER, 0, &Namespace::default(), now).unwrap();
    let report = FullTrackName::new(ns("weir/nodes/edge"), "snapshot").unwrap();
    router.handle_subscribe(VIEWER, 0, &report, Duration::ZERO, None, now);
    assert!(matches!(drain(&mut router)[..], [RouteAction::Reject(..), RouteAction::Forget(_)]));
    assert!(router.handle_publish(PUBLISHER, &report, now).is_err());
}

#[test]
fn publishers_that_ended_a_track_are_not_asked_round_and_round() {
    let now = Instant::now();
    let mut router = watched(now);
    let second = SessionId(9);
    router.handle_session(second, Peer::Client, now);
    router.handle_publish_namespace(second, 0, &ns("live"), now).unwrap();
    // The first ends the track before the second has answered.
    router.handle_upstream_done(PUBLISHER, TRACK, PublishDoneCode::TRACK_ENDED, now);
    assert_eq!(drain(&mut router), [subscribe(second)]);
    router.handle_upstream_ok(second, TRACK);
    router.handle_upstream_done(second, TRACK, PublishDoneCode::TRACK_ENDED, now);
    let code = PublishDoneCode::TRACK_ENDED;
    assert_eq!(
        drain(&mut router),
        [RouteAction::End(VIEWER, 0, TRACK, code), RouteAction::Forget(TRACK)]
    );
}

#[test]
fn two_relays_with_viewers_each_do_not_keep_a_dead_track_alive() {
    let now = Instant::now();
    let mut router = watched(now);
    let child = SessionId(10);
    router.handle_session(child, Peer::Node, now);
    router.handle_publish_namespace(child, 0, &ns("live/cam1"), now).unwrap();
    router.handle_upstream_ok(child, TRACK);
    router.handle_subscribe(child, 2, &video(), Duration::ZERO, None, now);
    drain(&mut router);
    // Our own publisher ends the track: what the child still gives may be what we gave it.
    let code = PublishDoneCode::TRACK_ENDED;
    router.handle_upstream_done(PUBLISHER, TRACK, code, now);
    assert_eq!(drain(&mut router), [RouteAction::End(child, 2, TRACK, code)]);
    // Then the child has nobody else either.
    router.handle_upstream_done(child, TRACK, code, now);
    assert_eq!(
        drain(&mut router),
        [RouteAction::End(VIEWER, 0, TRACK, code), RouteAction::Forget(TRACK)]
    );
}

#[test]
fn a_track_that_ended_ends_though_the_parent_is_asked_once_more() {
    let now = Instant::now();
    let mut router = watched(now);
    router.handle_session(PARENT, Peer::Uplink, now);
    drain(&mut router);
    router.handle_upstream_done(PUBLISHER, TRACK, PublishDoneCode::TRACK_ENDED, now);
    assert_eq!(drain(&mut router), [subscribe(PARENT)]);
    router.handle_upstream_error(PARENT, TRACK, &refused(), now);
    let code = PublishDoneCode::TRACK_ENDED;
    assert_eq!(
        drain(&mut router),
        [RouteAction::End(VIEWER, 0, TRACK, code), RouteAction::Forget(TRACK)]
    );
}

#[test]
fn asking_in_vain_does_not_make_the_linger_longer() {
    let now = Instant::now();
    let mut router = watched(now);
    router.handle_session(PARENT, Peer::Uplink, now);
    router.handle_session_closed(PUBLISHER, now);
    let code = PublishDoneCode::TRACK_ENDED;
    let end = now + RouterConfig::default().linger;
    loop {
        let actions = drain(&mut router);
        if actions.contains(&RouteAction::End(VIEWER, 0, TRACK, code)) {
            return;
        }
        let at = router.poll_timeout().expect("the parent is asked again");
        if actions.contains(&subscribe(PARENT)) {
            router.handle_upstream_error(PARENT, TRACK, &refused(), at.min(end));
        } else {
            assert!(at <= end, "the linger is over");
            router.handle_timeout(at);
        }
    }
}

#[test]
fn a_publisher_that_comes_at_the_same_moment_is_not_too_late() {
    let now = Instant::now();
    let mut router = Router::new(RouterConfig::default());
    router.handle_session(VIEWER, Peer::Client, now);
    router.handle_session(PUBLISHER, Peer::Client, now);
    router.handle_subscribe(VIEWER, 0, &video(), Duration::ZERO, None, now);
    router.handle_subscribe(
        VIEWER,
        2,
        &FullTrackName::new(ns("live"), "x").unwrap(),
        Duration::ZERO,
        None,
        now,
    );
    assert_eq!(drain(&mut router), []);
    router.handle_publish(PUBLISHER, &video(), now + Duration::from_millis(9)).unwrap();
    assert_eq!(drain(&mut router), [RouteAction::Accept(VIEWER, 0, TRACK)]);
    let at = router.poll_timeout().unwrap();
    assert_eq!(at, now + RouterConfig::default().grace);
    router.handle_timeout(at);
    let actions = drain(&mut router);
    let RouteAction::Reject(VIEWER, 2, error) = &actions[0] else { panic!("{actions:?}") };
    assert_eq!(error.code, RequestErrorCode::DOES_NOT_EXIST);
}

#[test]
fn a_publisher_that_has_the_track_a_little_later_is_asked_again_though_another_has_it() {
    let now = Instant::now();
    let mut router = watched(now);
    let second = SessionId(9);
    router.handle_session(second, Peer::Client, now);
    router.handle_publish_namespace(second, 0, &ns("live/cam1"), now).unwrap();
    assert_eq!(drain(&mut router), [subscribe(second)]);
    router.handle_upstream_error(second, TRACK, &refused(), now);
    assert_eq!(drain(&mut router), []);
    let at = router.poll_timeout().unwrap();
    assert_eq!(at, now + RouterConfig::default().retry);
    router.handle_timeout(at);
    assert_eq!(drain(&mut router), [subscribe(second)]);
    router.handle_upstream_ok(second, TRACK);
    // One that never has it is not asked for ever.
    let third = SessionId(10);
    router.handle_session(third, Peer::Client, at);
    router.handle_publish_namespace(third, 0, &ns("live"), at).unwrap();
    let mut asked = 0;
    loop {
        asked += drain(&mut router).iter().filter(|a| **a == subscribe(third)).count();
        router.handle_upstream_error(third, TRACK, &refused(), at);
        let Some(at) = router.poll_timeout() else { break };
        router.handle_timeout(at);
        assert!(asked < 20, "asked for ever");
    }
    assert!(asked > 1);
}
