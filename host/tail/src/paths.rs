//! Which paths an entry means.

/// Include and exclude globs, compiled.
#[derive(Debug)]
pub struct PathPatterns {}

/// Which paths nobody may read.
#[derive(Clone, Debug)]
pub struct AllowPaths {}
