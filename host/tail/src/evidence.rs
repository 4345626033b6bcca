//! Evidence while reading.
