//! What this build is.

use std::sync::LazyLock;

/// The version of the crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from; `unknown` when the build did not say (set `TAILMILL_COMMIT` while building).
pub fn commit() -> &'static str {
    option_env!("TAILMILL_COMMIT").filter(|commit| !commit.is_empty()).unwrap_or("unknown")
}

/// Version and, where known, commit.
pub fn long() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(|| match commit() {
        "unknown" => VERSION.to_owned(),
        commit => format!("{VERSION} ({commit})"),
    });
    &LONG
}
