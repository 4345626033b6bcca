//! `tailmill status`: the fleet where the settings name an etcd, else what the agent's admin port says; for a person or as it
//! is.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::fleet::{self, EtcdArgs};
use super::settings_args::{DEFAULT_PATH, SettingsArgs};
use super::{fail, problems, say};
use crate::model::exit;
use crate::observe::status::Status;
use crate::observe::status_text::{Look, render};
use crate::observe::text::Paint;

pub(super) const EXAMPLES: &str = "Examples:
  tailmill status                      the fleet, where [etcd] is set; else the agent on this machine
  tailmill status web-01               one node, from etcd
  tailmill status --local              the agent on this machine
  tailmill status --watch              again every two seconds
  tailmill status --json | jq .total   for programs; /status of the admin port gives the same";

/// Where agents listen when nobody says otherwise.
const DEFAULT_ADMIN: &str = "127.0.0.1:9870";

/// Long enough for a busy machine, short enough for a person.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// A document lists a bounded number of streams; more than this is not one of ours.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    etcd: EtcdArgs,
    /// One node of the fleet
    #[arg(value_name = "NODE", conflicts_with_all = ["local", "admin"])]
    node: Option<String>,
    /// Ask the agent on this machine, also where an etcd is named
    #[arg(long)]
    local: bool,
    /// Ask the agent at this admin port
    #[arg(long, value_name = "ADDR:PORT")]
    admin: Option<String>,
    /// Forget a node that is gone for good
    #[arg(long, value_name = "NODE", conflicts_with_all = ["node", "local", "admin", "watch"])]
    forget: Option<String>,
    /// Print the document as it is
    #[arg(long)]
    json: bool,
    /// Show it again every so many seconds, until interrupted
    #[arg(long, short, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", require_equals = true)]
    watch: Option<f64>,
    /// Files listed for each entry, blocked ones first
    #[arg(long, value_name = "N", default_value_t = 5)]
    files: usize,
}

pub(super) fn run(args: &StatusArgs) -> i32 {
    let every = |seconds: f64| Duration::from_secs_f64(seconds.clamp(0.1, 3600.0));
    if args.admin.is_none() && !args.local {
        let wanted = args.node.is_some() || args.forget.is_some();
        match args.etcd.find(wanted) {
            Ok(Some(etcd)) => {
                let asked = fleet::status::Asked {
                    node: args.node.as_deref(),
                    json: args.json,
                    watch: args.watch.map(every),
                    forget: args.forget.as_deref(),
                };
                return fleet::status::run(&etcd, &asked);
            }
            Ok(None) => {}
            Err(code) => return code,
        }
    }
    let address = match address(args) {
        Ok(address) => address,
        Err(code) => return code,
    };
    let Some(seconds) = args.watch else {
        return match fetch(&address).and_then(|body| shown(&body, args)) {
            Ok(text) => {
                say(&text);
                exit::CLEAN
            }
            Err(error) => fail(&error),
        };
    };
    watch(&address, args, every(seconds))
}

/// Goes on until interrupted or until nobody reads. An agent that does not answer may be restarting.
fn watch(address: &str, args: &StatusArgs, every: Duration) -> i32 {
    let clear = if std::io::stdout().is_terminal() && !args.json { "\u{1b}[H\u{1b}[2J\u{1b}[3J" } else { "" };
    loop {
        let text = fetch(address).and_then(|body| shown(&body, args)).unwrap_or_else(|error| format!("{error:#}\n"));
        if !say(&format!("{clear}{text}")) {
            return exit::CLEAN;
        }
        std::thread::sleep(every);
    }
}

/// The admin port of the settings where there are any, else the usual one.
fn address(args: &StatusArgs) -> Result<String, i32> {
    if let Some(admin) = &args.admin {
        return Ok(admin.clone());
    }
    let config = args.etcd.config();
    if config == Path::new(DEFAULT_PATH) && !config.exists() {
        return Ok(DEFAULT_ADMIN.to_owned());
    }
    let settings = SettingsArgs::of_file(config).load().map_err(|found| problems(&found))?;
    let off = || fail(&anyhow::anyhow!("the admin port is off in {}: set admin.listen", config.display()));
    settings.admin.map(|address| address.to_string()).ok_or_else(off)
}

fn fetch(address: &str) -> Result<String> {
    let config = ureq::Agent::config_builder().timeout_global(Some(ANSWER_WAIT)).build();
    let url = format!("http://{address}/status");
    let answer = || -> Result<String, ureq::Error> {
        let mut response = ureq::Agent::new_with_config(config).get(&url).call()?;
        response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string()
    };
    answer().with_context(|| format!("while asking {url} (is the agent running? is its admin.listen {address}?)"))
}

fn shown(body: &str, args: &StatusArgs) -> Result<String> {
    let status: Status = serde_json::from_str(body).context("while reading the answer, which is not a status")?;
    if status.schema == 0 {
        bail!("while reading the answer: it comes from something else than a tailmill agent");
    }
    if args.json {
        return Ok(format!("{}\n", body.trim_end()));
    }
    Ok(render(&status, Look { paint: Paint::for_stream(&std::io::stdout()), streams_max: args.files }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        status: StatusArgs,
    }

    fn args(flags: &[&str]) -> StatusArgs {
        Only::try_parse_from(["x"].iter().chain(flags)).unwrap().status
    }

    /// Answers one request with this body.
    fn serve(body: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        });
        address
    }

    fn document() -> String {
        serde_json::to_string(&Status { schema: 1, node: "web-01".into(), ..Status::default() }).unwrap()
    }

    #[test]
    fn the_document_is_shown_as_text_or_as_it_came() {
        let body = fetch(&serve(document())).unwrap();
        assert!(shown(&body, &args(&[])).unwrap().contains("web-01"));
        assert_eq!(shown(&body, &args(&["--json"])).unwrap(), format!("{}\n", document()));
    }

    #[test]
    fn something_else_on_the_port_is_not_taken_for_an_agent() {
        let check = |body: &str, expected: &str| {
            let error = format!("{:#}", shown(body, &args(&[])).unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        check("<html>", "not a status");
        check("{}", "something else than a tailmill agent");
    }

    #[test]
    fn an_agent_that_does_not_run_is_a_failure_that_says_what_to_look_at() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let error = format!("{:#}", fetch(&free).unwrap_err());
        assert!(error.starts_with(&format!("while asking http://{free}/status")), "{error}");
        assert!(error.contains("is the agent running?"), "{error}");
        assert_eq!(run(&args(&["--admin", &free])), exit::FAILED);
    }

    #[test]
    fn the_address_comes_from_the_flag_then_from_the_settings() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t.toml");
        let text = "state_dir = \"/tmp/s\"\n[kafka]\nbrokers = [\"a:1\"]\n[admin]\nlisten = \"127.0.0.1:7777\"\n";
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let check = |flags: &[&str], expected: Result<&str, i32>| {
            assert_eq!(address(&args(flags)), expected.map(str::to_owned));
        };
        check(&["--config", file], Ok("127.0.0.1:7777"));
        check(&["--config", file, "--admin", "h:1"], Ok("h:1"));
        check(&["--config", "/does/not/exist"], Err(exit::USAGE));
        std::fs::write(file, text.replace("127.0.0.1:7777", "off")).unwrap();
        check(&["--config", file], Err(exit::FAILED));
    }

    #[test]
    fn watch_takes_an_optional_number_of_seconds() {
        assert_eq!(args(&["--watch"]).watch, Some(2.0));
        assert_eq!(args(&["--watch=0.5"]).watch, Some(0.5));
        assert_eq!(args(&[]).watch, None);
    }
}
