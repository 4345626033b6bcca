//! A whole shard with scripted filters and a mock Kafka: `rig` drives it round by round, so that a test decides what
//! happens while a chain is on the lane.

mod away; // what may happen to a stream while its chain is away
mod random; // all of it, in any order
mod rig; // a shard, its lane, its files, and what arrived
