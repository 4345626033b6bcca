//! What librdkafka's and Kafka's error codes mean for a record: can it go later, or never?

use rdkafka::types::RDKafkaErrorCode as Code;

/// Why a record was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of failure.
    pub kind: RefusalKind,
    /// Sending the same record again leads to the same end, unless somebody changes the broker or its rights. A verdict on
    /// this record only if it was sent alone: brokers refuse whole requests.
    pub for_good: bool,
    /// For people.
    pub message: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefusalKind {
    /// Larger than client, broker or topic take.
    TooLarge,
    /// The topic or the partition is not there.
    Unknown,
    /// This client may not write there.
    NotAuthorised,
    /// The broker says the record itself is wrong.
    Invalid,
    /// Given up at the stop deadline. It may have been written.
    Purged,
    /// The producer failed for good.
    Fatal,
    /// Anything else. It may have been written.
    Other,
}

impl RefusalKind {
    /// The name used in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            RefusalKind::TooLarge => "too-large",
            RefusalKind::Unknown => "unknown-topic-or-partition",
            RefusalKind::NotAuthorised => "not-authorised",
            RefusalKind::Invalid => "invalid",
            RefusalKind::Purged => "purged",
            RefusalKind::Fatal => "fatal",
            RefusalKind::Other => "other",
        }
    }
}

impl Refusal {
    pub(super) fn of(code: Code) -> Refusal {
        let kind = kind(code);
        let for_good = matches!(kind, RefusalKind::TooLarge | RefusalKind::NotAuthorised | RefusalKind::Invalid);
        Refusal { kind, for_good, message: code.to_string() }
    }

    pub(super) fn no_partition(topic: &str, number: i32, partitions: i32) -> Refusal {
        let message = format!("topic {topic} has {partitions} partitions, there is no number {number}");
        Refusal { kind: RefusalKind::Unknown, for_good: false, message }
    }

    pub(super) fn no_topic(topic: &str) -> Refusal {
        let message = format!("topic {topic} is not there, or its cluster has not answered yet");
        Refusal { kind: RefusalKind::Unknown, for_good: false, message }
    }

    pub(super) fn invalid(message: String) -> Refusal {
        Refusal { kind: RefusalKind::Invalid, for_good: true, message }
    }

    pub(super) fn purged() -> Refusal {
        let message = "given up at the stop deadline".to_owned();
        Refusal { kind: RefusalKind::Purged, for_good: false, message }
    }
}

fn kind(code: Code) -> RefusalKind {
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => RefusalKind::TooLarge,
        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition => RefusalKind::Unknown,
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => RefusalKind::NotAuthorised,
        Code::InvalidRecord
        | Code::InvalidTopic
        | Code::PolicyViolation
        | Code::InvalidTimestamp
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedCompressionType => RefusalKind::Invalid,
        Code::PurgeQueue | Code::PurgeInflight => RefusalKind::Purged,
        Code::Fatal => RefusalKind::Fatal,
        _ => RefusalKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_waiting_can_heal_is_for_good() {
        for (code, kind, for_good) in [
            (Code::MessageSizeTooLarge, RefusalKind::TooLarge, true),
            (Code::TopicAuthorizationFailed, RefusalKind::NotAuthorised, true),
            (Code::InvalidRecord, RefusalKind::Invalid, true),
            (Code::UnknownPartition, RefusalKind::Unknown, false),
            (Code::UnknownTopicOrPartition, RefusalKind::Unknown, false),
            (Code::PurgeInflight, RefusalKind::Purged, false),
            (Code::NotEnoughReplicas, RefusalKind::Other, false),
            (Code::Fatal, RefusalKind::Fatal, false),
        ] {
            let refusal = Refusal::of(code);
            assert_eq!((refusal.kind, refusal.for_good), (kind, for_good), "{code}");
        }
    }
}
