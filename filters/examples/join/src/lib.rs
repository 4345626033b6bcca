//! Joins a line that ends in a backslash with the next one, over batches, restarts and swaps.
//!
//! Lines that wait are held: the host reads them again after a crash. What waits longer than `wait_ms` goes on as it is,
//! and so does what waits when the file is finished.

use tailmill_filter::prelude::*;

/// What the entry may say.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long a part waits for the next line, in milliseconds.
    wait_ms: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config { wait_ms: 5_000 }
    }
}

/// The filter.
pub struct Join {
    wait_ms: i64,
    /// Invariant: `None` between two joined lines, so that nothing is held then.
    pending: Option<Pending>,
}

#[derive(Serialize, Deserialize)]
struct Pending {
    /// The first of the lines that wait: the mark must not pass it.
    held: Held,
    #[serde(with = "tailmill_filter::state::bytes")]
    text: Vec<u8>,
    since_ms: i64,
}

#[filter(state = pending)]
impl Filter for Join {
    type Config = Config;

    fn start(config: Config) -> Result<Join, String> {
        if config.wait_ms == 0 {
            return Err("`wait_ms`: must be at least 1".into());
        }
        Ok(Join { wait_ms: config.wait_ms.into(), pending: None })
    }

    fn line(&mut self, line: &[u8], ctx: &mut Ctx) -> Result<Verdict, String> {
        let Some(part) = line.strip_suffix(b"\\") else {
            return Ok(match self.pending.take() {
                None => Verdict::Keep,
                Some(mut pending) => {
                    pending.text.extend_from_slice(line);
                    Verdict::Replace(pending.text)
                }
            });
        };
        let now = ctx.now_ms();
        let pending = self.pending.get_or_insert_with(|| Pending { held: ctx.hold(), text: Vec::new(), since_ms: now });
        pending.text.extend_from_slice(part);
        Ok(Verdict::Hold)
    }

    fn every_ms(&self) -> u32 {
        (self.wait_ms / 4).clamp(10, 1_000) as u32
    }

    fn tick(&mut self, ctx: &mut Ctx) -> Result<(), String> {
        let now = ctx.now_ms();
        if self.pending.as_ref().is_some_and(|pending| now - pending.since_ms >= self.wait_ms) {
            self.flush(ctx)?;
        }
        Ok(())
    }

    fn flush(&mut self, ctx: &mut Ctx) -> Result<(), String> {
        if let Some(pending) = self.pending.take() {
            ctx.emit_from(&pending.held, &pending.text);
        }
        Ok(())
    }
}
