//! Commands for a whole fleet: they speak to etcd, never to an agent.
//!
//! Where etcd is comes from the settings file, variables or flags. What is refused exits with 64, what failed with 1.

mod entry; // `entry`
mod key; // `key`
mod module; // `module`
mod rollout; // `rollout`
pub(super) mod status; // the fleet's part of `status`

use std::path::{Path, PathBuf};

use clap::Args;

use super::settings_args::DEFAULT_PATH;
use super::{complain, problems};
use crate::config::{EtcdSettings, Overrides, Settings};
use crate::fleet::{Desk, FleetError};
use crate::model::exit;

pub(super) use entry::{EXAMPLES as ENTRY_EXAMPLES, EntryArgs, run as entry};
pub(super) use key::{EXAMPLES as KEY_EXAMPLES, KeyArgs, run as key};
pub(super) use module::{EXAMPLES as MODULE_EXAMPLES, ModuleArgs, run as module};
pub(super) use rollout::{EXAMPLES as ROLLOUT_EXAMPLES, RolloutArgs, run as rollout};

/// What stands in for a settings file where there is none: the agent's own keys do not matter here.
const NO_SETTINGS: &str = "[kafka]\nbrokers = [\"unused:1\"]\n";

/// Where etcd is.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct EtcdArgs {
    /// Settings file, for its [etcd]
    #[arg(long, short, value_name = "FILE", env = "TAILMILL_CONFIG", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// Servers of etcd, separated by commas [file: etcd.endpoints]
    #[arg(long, value_name = "URL,…")]
    endpoints: Option<String>,
    /// In front of every key of ours [file: etcd.prefix]
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,
    /// User of etcd [file: etcd.user]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// File with the user's password [file: etcd.password_file]
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    /// Certificates that signed the servers' own [file: etcd.ca]
    #[arg(long, value_name = "PEM")]
    ca: Option<String>,
    /// Own certificate [file: etcd.cert]
    #[arg(long, value_name = "PEM")]
    cert: Option<String>,
    /// Its key [file: etcd.key]
    #[arg(long, value_name = "PEM")]
    cert_key: Option<String>,
}

impl EtcdArgs {
    pub(super) fn config(&self) -> &Path {
        &self.config
    }

    /// Where etcd is, if anything says so; a complaint and an exit code where it must.
    pub(super) fn find(&self, needed: bool) -> Result<Option<EtcdSettings>, i32> {
        let no_file = self.config == Path::new(DEFAULT_PATH) && !self.config.exists();
        if no_file && !self.is_named() && !needed {
            return Ok(None);
        }
        if needed {
            return self.settings().map(|(_, etcd)| Some(etcd));
        }
        self.load().map(|settings| settings.etcd)
    }

    /// The settings, with a complaint and an exit code where they are not sound.
    fn settings(&self) -> Result<(Settings, EtcdSettings), i32> {
        let settings = self.load()?;
        match settings.etcd.clone() {
            Some(etcd) => Ok((settings, etcd)),
            None => {
                complain(&format!("no etcd is named: write --endpoints, or [etcd] into {}", self.config.display()));
                Err(exit::USAGE)
            }
        }
    }

    /// Whether a flag or a variable says where etcd is: then no settings file is needed.
    fn is_named(&self) -> bool {
        self.endpoints.is_some() || std::env::var_os("TAILMILL_ETCD_ENDPOINTS").is_some()
    }

    fn load(&self) -> Result<Settings, i32> {
        let flags = [
            ("--endpoints", "etcd.endpoints", &self.endpoints),
            ("--prefix", "etcd.prefix", &self.prefix),
            ("--user", "etcd.user", &self.user),
            ("--password-file", "etcd.password_file", &self.password_file),
            ("--ca", "etcd.ca", &self.ca),
            ("--cert", "etcd.cert", &self.cert),
            ("--cert-key", "etcd.key", &self.cert_key),
        ];
        let mut overrides = Overrides::from_environment();
        for (flag, key, value) in flags {
            if let Some(value) = value {
                overrides = overrides.with_flag(flag, key, value);
            }
        }
        let is_there = self.config.exists() || !self.is_named();
        let loaded = match is_there {
            true => Settings::load(&self.config, &overrides),
            false => Settings::from_text(&self.config, NO_SETTINGS, &overrides),
        };
        loaded.map_err(|found| problems(&found))
    }
}

/// Runs what speaks to etcd.
fn with_desk<T>(
    etcd: &EtcdSettings,
    work: impl AsyncFnOnce(&mut Desk) -> Result<T, FleetError>,
) -> Result<T, FleetError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| FleetError::Etcd(format!("while starting: {error}")))?;
    runtime.block_on(async {
        let mut desk = Desk::open(etcd).await?;
        work(&mut desk).await
    })
}

/// The exit code of a command; says why it was not done.
fn code(result: Result<i32, FleetError>) -> i32 {
    result.unwrap_or_else(|error| {
        complain(&error.to_string());
        match error {
            FleetError::Refused(_) => exit::USAGE,
            FleetError::Etcd(_) | FleetError::Crowded => exit::FAILED,
        }
    })
}

/// Who does it, for the records: `user@host`.
fn who() -> String {
    let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "somebody".to_owned());
    let host = hostname::get().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    format!("{user}@{host}")
}

/// `2026-01-01 12:00:00Z`.
fn at(ms: i64) -> String {
    let seconds = ms.div_euclid(1000);
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Howard Hinnant, "chrono-compatible low-level date algorithms": days since 1970 to year, month and day.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Rows of text under their headings, as wide as need be.
fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    for row in std::iter::once(&headings).chain(rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_dates() {
        for (ms, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_400_000, "2000-02-29 00:00:00Z"),
            (1_767_225_599_999, "2025-12-31 23:59:59Z"),
            (1_767_225_600_000, "2026-01-01 00:00:00Z"),
        ] {
            assert_eq!(at(ms), text);
        }
    }

    #[test]
    fn etcd_is_found_by_flags_alone_or_named_as_missing() {
        let flags = EtcdArgs {
            config: "/does/not/exist".into(),
            endpoints: Some("http://a:1,http://b:2".to_owned()),
            prefix: Some("/p".to_owned()),
            ..EtcdArgs::default()
        };
        let (_, etcd) = flags.settings().unwrap();
        assert_eq!(
            (etcd.endpoints, etcd.prefix.as_str()),
            (vec!["http://a:1".to_owned(), "http://b:2".to_owned()], "/p/")
        );
        let nothing = EtcdArgs { config: "/does/not/exist".into(), ..EtcdArgs::default() };
        assert_eq!(nothing.settings().err(), Some(exit::USAGE));
    }

    #[test]
    fn tables_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "long".to_owned()], vec!["grün".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["n", "v"], &rows), "n     v\na     long\ngrün  x\n");
    }
}
