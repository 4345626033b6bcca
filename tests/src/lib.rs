//! Tailmill's test harness: real Kafka, real etcd, generators, oracles, end-to-end suites and benches
