//! What is wrong with a cluster, from librdkafka's error events: they say what breaks, never that it healed.

use std::time::Instant;

use rdkafka::types::RDKafkaErrorCode as Code;

/// The newest trouble that has not healed.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    now: Option<Current>,
    /// What was last heard of a single broker: the reason why none is left, when none is.
    detail: Option<String>,
}

#[derive(Debug)]
struct Current {
    at: Instant,
    message: String,
    /// How often in a row.
    times: u64,
    authentication: bool,
}

impl Trouble {
    /// An error event. One broker of several that goes away is ordinary; librdkafka says AllBrokersDown when none is left.
    /// It says that also when no broker lets us in: then the reason that came before is the better one.
    pub(super) fn heard(&mut self, code: Code, message: &str) {
        let authentication = matches!(code, Code::Authentication | Code::SaslAuthenticationFailed);
        let before = self.now.take();
        let text = match (code, &before) {
            _ if authentication => format!("authentication fails: {message}"),
            (Code::AllBrokersDown, Some(before)) if before.authentication => before.message.clone(),
            (Code::AllBrokersDown, _) => match &self.detail {
                Some(detail) => format!("{message}: {detail}"),
                None => message.to_owned(),
            },
            (Code::SSL | Code::Fatal | Code::Fail, _) => message.to_owned(),
            _ => {
                self.detail = Some(message.to_owned());
                self.now = before;
                return;
            }
        };
        let authentication =
            authentication || before.as_ref().is_some_and(|before| before.authentication && before.message == text);
        let times = before.map_or(0, |before| before.times) + 1;
        self.now = Some(Current { at: Instant::now(), message: text, times, authentication });
    }

    /// Kafka acknowledged something: all is well.
    pub(super) fn acknowledged(&mut self) {
        self.now = None;
        self.detail = None;
    }

    /// For people. `answered_at`: when the cluster last answered anybody.
    pub(super) fn message(&self, answered_at: Option<Instant>) -> Option<String> {
        let now = self.now.as_ref().filter(|now| answered_at.is_none_or(|answered| answered < now.at))?;
        Some(match now.times {
            1 => now.message.clone(),
            times => format!("{} ({times} times)", now.message),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_password_shows_until_something_is_acknowledged() {
        let mut trouble = Trouble::default();
        trouble.heard(Code::BrokerTransportFailure, "one of three disconnected");
        assert_eq!(trouble.message(None), None);
        trouble.heard(Code::Authentication, "SASL: bad password");
        trouble.heard(Code::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(trouble.message(None).as_deref(), Some("authentication fails: SASL: bad password (2 times)"));
        trouble.acknowledged();
        assert_eq!(trouble.message(None), None);
    }

    #[test]
    fn the_last_word_on_a_broker_says_why_none_is_left() {
        let mut trouble = Trouble::default();
        trouble.heard(Code::Resolve, "kafka:9092: failed to resolve");
        assert_eq!(trouble.message(None), None);
        trouble.heard(Code::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(trouble.message(None).as_deref(), Some("1/1 brokers are down: kafka:9092: failed to resolve"));
    }

    #[test]
    fn an_answer_after_the_trouble_heals_it() {
        let mut trouble = Trouble::default();
        let before = Instant::now();
        trouble.heard(Code::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(
            trouble.message(Some(before - std::time::Duration::from_secs(1))).as_deref(),
            Some("1/1 brokers are down")
        );
        assert_eq!(trouble.message(Some(Instant::now() + std::time::Duration::from_secs(1))), None);
    }
}
