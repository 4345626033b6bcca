//! What this process uses, from `/proc`. A file that cannot be read gives zeros: this is decoration.

use std::fs;

/// A look at the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) open_fds: u64,
    pub(crate) max_fds: u64,
}

/// The usage now.
pub(crate) fn usage() -> Usage {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let (ticks, pages) = parse_stat(&stat).unwrap_or_default();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    Usage {
        cpu_seconds: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
        resident_bytes: pages * rustix::param::page_size() as u64,
        // The directory that is being read is open itself.
        open_fds: fs::read_dir("/proc/self/fd").map_or(0, |fds| (fds.count() as u64).saturating_sub(1)),
        max_fds: limit.unwrap_or(u64::MAX),
    }
}

/// Clock ticks (user and system) and resident pages: fields 14, 15 and 24 of proc_pid_stat(5). The command's name is in
/// parentheses and may hold anything, so fields are counted from its end.
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let user: u64 = fields.nth(14 - 3)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let pages: u64 = fields.nth(24 - 15 - 1)?.parse().ok()?;
    Some((user + system, pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let fields: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        let stat = format!("1 (a) (b c) S {}", fields.join(" "));
        assert_eq!(parse_stat(&stat), Some((14 + 15, 24)));
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = usage();
        assert!(usage.resident_bytes > 0 && usage.open_fds > 0 && usage.max_fds >= usage.open_fds, "{usage:?}");
    }
}
