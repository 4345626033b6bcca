//! Edits JSON lines, and makes JSON of text.
//!
//! A line is cut into its fields, not parsed into values: what no path touches goes on byte for byte, numbers and all, and
//! in its order. What is not a JSON object goes by policy.

mod config;
mod edit;
mod object;
mod text;

use tailmill_filter::prelude::*;

use config::NotJson;
pub use config::{Config, Policy};
use edit::Edits;
use object::Object;
use text::TextPattern;

/// The filter.
pub struct Json {
    edits: Edits,
    text: Option<TextPattern>,
    not_json: NotJson,
}

#[filter]
impl Filter for Json {
    type Config = Config;

    fn start(config: Config) -> Result<Json, String> {
        config.check()?;
        let text = TextPattern::new(&config)?;
        let not_json = config.not_json();
        Ok(Json { edits: Edits::new(config)?, text, not_json })
    }

    fn traits(&self) -> Traits {
        Traits::stateless()
    }

    fn line(&mut self, line: &[u8], ctx: &mut Ctx) -> Result<Verdict, String> {
        let problem = match Object::parse(line) {
            Ok(object) => return Ok(self.edited(object, Verdict::Keep, ctx)),
            Err(problem) => problem,
        };
        if let Some(object) = self.text.as_mut().and_then(|text| text.object(line)) {
            return Ok(self.edited(object, Verdict::Emitted, ctx));
        }
        match &self.not_json {
            NotJson::Keep => Ok(Verdict::Keep),
            NotJson::Drop => Ok(Verdict::Drop),
            NotJson::Wrap(key) => {
                let mut object = Object::default();
                object.set(key, &text::quoted(line));
                Ok(self.edited(object, Verdict::Emitted, ctx))
            }
            NotJson::Error => Err(problem),
        }
    }
}

impl Json {
    /// Edits an object; one that stays as it is needs only `unchanged`, if it came as a line.
    fn edited(&self, mut object: Object<'_>, unchanged: Verdict, ctx: &mut Ctx) -> Verdict {
        let changed = self.edits.apply(&mut object);
        if !changed && unchanged == Verdict::Keep {
            return unchanged;
        }
        ctx.emit_with(|out| object.write(out));
        Verdict::Emitted
    }
}
