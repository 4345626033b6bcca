//! `tailmill inspect`: what a module is, and what is wrong with it as a filter.

use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};
use tailmill_engine::{Inspection, Instance, Module, Size, Surroundings, Traits};

use super::{ModuleArgs, Stop, code, topics, workshop};
use crate::app::Workshop;
use crate::cli::dev::filters::stock_dirs;
use crate::cli::{complain, say};
use crate::model::{ModuleFile, exit};
use crate::observe::text::{Paint, bytes, count, safe};

pub(in crate::cli) const EXAMPLES: &str = r#"Examples:
  tailmill inspect mine.wasm
  tailmill inspect grep --with '{"include": "error"}'     starts it: needles, ticks
  tailmill inspect mine.wasm --json | jq .digest

Exits with 64 when it is no filter, or does not start with this configuration."#;

/// Needles that are listed.
const NEEDLES_SHOWN: usize = 8;

#[derive(Args, Debug)]
pub(in crate::cli) struct InspectArgs {
    #[command(flatten)]
    module: ModuleArgs,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// All that is known.
struct Facts {
    file: std::sync::Arc<ModuleFile>,
    seen: Inspection,
    /// None: it does not load.
    loaded: Option<Module>,
    /// None: it was not started.
    started: Option<Started>,
    problem: Option<String>,
}

/// What it says of itself once it has its configuration.
struct Started {
    traits: Traits,
    every_ms: Option<u32>,
    memory_bytes: u64,
}

pub(in crate::cli) fn run(args: &InspectArgs) -> i32 {
    code(inspect(args))
}

fn inspect(args: &InspectArgs) -> Result<i32, Stop> {
    args.module.check()?;
    let file = args.module.module.module(&stock_dirs()).map_err(Stop::Usage)?;
    let seen = tailmill_engine::inspect(&file.bytes)
        .map_err(|error| Stop::Usage(format!("while inspecting {}: {error}", file.source)))?;
    let mut facts = Facts { file, seen, loaded: None, started: None, problem: None };
    if let Err(problem) = look_closer(args, &workshop()?, &mut facts) {
        facts.problem = Some(problem);
    }
    if args.json {
        say(&format!("{:#}\n", facts.json()));
    } else {
        say(&facts.text(Paint::for_stream(&std::io::stdout())));
    }
    match &facts.problem {
        None => Ok(exit::CLEAN),
        Some(problem) => {
            complain(problem);
            Ok(exit::USAGE)
        }
    }
}

/// Loads it, and starts it where a configuration is given.
fn look_closer(args: &InspectArgs, shop: &Workshop, facts: &mut Facts) -> Result<(), String> {
    let module = shop.armory().module(&facts.file)?;
    facts.loaded = Some(module.clone());
    if args.module.with.is_none() && args.module.module.with.is_none() {
        return Ok(());
    }
    let surroundings = Surroundings { node: super::NODE.into(), topics: topics(&args.module) };
    let said = |fault| format!("while starting it with {}: {fault}", args.module.with());
    let mut instance: Instance =
        module.start(args.module.with(), &args.module.limits(), &surroundings, args.module.stateless).map_err(said)?;
    let every_ms = instance.every_ms().map_err(said)?;
    let memory_bytes = instance.memory_bytes() as u64;
    facts.started = Some(Started { traits: instance.traits().clone(), every_ms, memory_bytes });
    Ok(())
}

impl Facts {
    fn kind(&self) -> &'static str {
        match (self.seen.is_component, self.seen.has_metadata, self.seen.uses_preview1) {
            (true, ..) => "component",
            (_, _, true) => "core module with WASI preview 1, wrapped on the fly",
            (_, true, _) => "core module with component types, wrapped on the fly",
            _ => "core module, wrapped on the fly",
        }
    }

    fn interfaces(&self) -> Vec<&'static str> {
        let Some(module) = &self.loaded else { return Vec::new() };
        let all = [("ticks", module.has_ticks()), ("finish", module.has_finish()), ("state", module.has_state())];
        all.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect()
    }

    fn text(&self, paint: Paint) -> String {
        let mut rows: Vec<(&str, String)> = vec![
            ("module", safe(&self.file.source)),
            ("digest", self.file.digest.to_string()),
            (
                "size",
                format!("{} ({} bytes)", bytes(self.file.bytes.len() as u64), count(self.file.bytes.len() as u64)),
            ),
            ("kind", self.kind().to_owned()),
            ("world", self.seen.world.map_or("none: it is no filter", |world| world.name()).to_owned()),
            ("contract", self.seen.contract.clone().unwrap_or_else(|| "-".to_owned())),
            ("interfaces", list(&self.interfaces())),
            ("exports", list(&self.seen.exports)),
            ("imports", list(&self.seen.imports)),
            ("functions", count(self.seen.functions)),
            ("memory", sizes(&self.seen.memories, |pages| bytes(pages.saturating_mul(64 << 10)))),
            ("tables", sizes(&self.seen.tables, |elements| format!("{} elements", count(elements)))),
        ];
        if let Some(started) = &self.started {
            rows.extend(started.rows());
        }
        let mut text = String::new();
        for (name, value) in rows {
            let _ = writeln!(text, "{}{value}", paint.faint(&format!("{name:<12}")));
        }
        text
    }

    fn json(&self) -> Value {
        let sizes = |sizes: &[Size]| -> Vec<Value> {
            sizes.iter().map(|size| json!({ "min": size.min, "max": size.max })).collect()
        };
        json!({
            "module": self.file.source,
            "digest": self.file.digest.to_string(),
            "size_bytes": self.file.bytes.len(),
            "is_component": self.seen.is_component,
            "uses_preview1": self.seen.uses_preview1,
            "world": self.seen.world.map(|world| world.name()),
            "contract": self.seen.contract,
            "interfaces": self.interfaces(),
            "exports": self.seen.exports,
            "imports": self.seen.imports,
            "functions": self.seen.functions,
            "memories_pages": sizes(&self.seen.memories),
            "tables_elements": sizes(&self.seen.tables),
            "started": self.started.as_ref().map(Started::json),
            "problem": self.problem,
        })
    }
}

impl Started {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let needles = self.traits.needles.iter().take(NEEDLES_SHOWN);
        let mut shown: Vec<String> = needles.map(|needle| format!("{:?}", String::from_utf8_lossy(needle))).collect();
        if self.traits.needles.len() > NEEDLES_SHOWN {
            shown.push(format!("and {} more", self.traits.needles.len() - NEEDLES_SHOWN));
        }
        let without = if self.traits.keep_skipped { "kept" } else { "dropped" };
        let needles = match shown.is_empty() {
            true => "none: every line enters wasm".to_owned(),
            false => format!("{}; lines without are {without}", shown.join(", ")),
        };
        vec![
            ("stateless", if self.traits.stateless { "yes: one instance serves many files" } else { "no" }.to_owned()),
            ("needles", needles),
            ("ticks", self.every_ms.map_or("never".to_owned(), |ms| format!("every {} ms", count(ms.into())))),
            ("started", format!("with {} of memory", bytes(self.memory_bytes))),
        ]
    }

    fn json(&self) -> Value {
        let needles: Vec<_> = self.traits.needles.iter().map(|needle| String::from_utf8_lossy(needle)).collect();
        json!({
            "stateless": self.traits.stateless,
            "needles": needles,
            "keep_skipped": self.traits.keep_skipped,
            "every_ms": self.every_ms,
            "memory_bytes": self.memory_bytes,
        })
    }
}

fn list(names: &[impl AsRef<str>]) -> String {
    let names: Vec<String> = names.iter().map(|name| safe(name.as_ref())).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

fn sizes(sizes: &[Size], unit: impl Fn(u64) -> String) -> String {
    let one = |size: &Size| {
        let max = size.max.map_or("no limit of its own".to_owned(), |max| format!("at most {}", unit(max)));
        format!("{} at the start, {max}", unit(size.min))
    };
    let all: Vec<String> = sizes.iter().map(one).collect();
    if all.is_empty() { "-".to_owned() } else { all.join("; ") }
}
