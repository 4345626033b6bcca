//! The directory against librdkafka's mock cluster.

use rdkafka::mocking::MockCluster;

use super::*;
use crate::model::Delivery;

const HANG: Duration = Duration::from_secs(60);

fn plan(brokers: String) -> ClusterPlan {
    let properties = [("reconnect.backoff.max.ms".to_owned(), "200".to_owned())].into();
    ClusterPlan { name: "default".into(), brokers: vec![brokers], delivery: Delivery::AtLeastOnce, properties }
}

/// Asks until the answer is the expected one.
fn becomes(directory: &TopicDirectory, topic: &str, expected: TopicState) {
    let hang = Instant::now() + HANG;
    loop {
        let state = directory.partitions(topic);
        if state == expected {
            return;
        }
        assert!(Instant::now() < hang, "{topic} stays {state:?}: {:?}", directory.problem(topic));
        std::thread::yield_now();
    }
}

/// Runs the directory's thread while `body` runs.
fn with_directory(plan: ClusterPlan, body: impl FnOnce(&TopicDirectory)) {
    let (directory, stop) = (TopicDirectory::new(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| directory.run(&plan, &stop));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&directory)));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn a_topic_is_unknown_then_ready_and_a_missing_one_appears_when_it_is_made() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("logs", 5, 1).unwrap();
    with_directory(plan(mock.bootstrap_servers()), |directory| {
        assert_eq!(directory.partitions("logs"), TopicState::Unknown, "asking never blocks");
        becomes(directory, "logs", TopicState::Ready(5));
        becomes(directory, "later", TopicState::Missing);
        assert!(directory.problem("later").is_some());
        mock.create_topic("later", 2, 1).unwrap();
        becomes(directory, "later", TopicState::Ready(2));
        assert_eq!((directory.problem("later"), directory.health()), (None, None));
    });
}

#[test]
fn a_record_that_comes_back_makes_the_directory_look_again() {
    let directory = TopicDirectory::fixed(&[("logs", 3)]);
    assert_eq!(directory.partitions("logs"), TopicState::Ready(3));
    directory.doubt("logs");
    assert_eq!(directory.partitions("logs"), TopicState::Unknown);
    assert_eq!(directory.next_due().as_deref(), Some("logs"));
}

#[test]
fn a_cluster_that_is_away_leaves_what_was_known_and_says_so() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("logs", 1, 1).unwrap();
    with_directory(plan(mock.bootstrap_servers()), |directory| {
        becomes(directory, "logs", TopicState::Ready(1));
        mock.broker_down(-1).unwrap();
        assert_eq!(directory.partitions("new"), TopicState::Unknown);
        let hang = Instant::now() + HANG;
        while directory.health().is_none() {
            assert!(Instant::now() < hang, "the outage never shows");
            std::thread::yield_now();
        }
        let looked_at = || directory.known().topics["logs"].looked_at;
        let before = looked_at();
        while looked_at() == before {
            assert!(Instant::now() < hang, "nobody looks again");
            std::thread::yield_now();
        }
        assert_eq!(directory.partitions("logs"), TopicState::Ready(1), "no answer is no news");
        assert_eq!(directory.partitions("new"), TopicState::Unknown);
        mock.create_topic("new", 4, 1).unwrap();
        mock.broker_up(-1).unwrap();
        becomes(directory, "new", TopicState::Ready(4));
        assert_eq!(directory.health(), None);
    });
}
