//! Takes secrets and personal data out of lines: mail addresses, card numbers, tokens, and what custom patterns find.
//!
//! Each detector looks for the few bytes that give its prey away, so a clean line costs little and a clean batch is answered
//! with "keep all". A value becomes a text, or a keyed hash: equal values stay equal, and nobody without the key can tell
//! which they were.

mod card;
mod config;
mod email;
mod replace;
mod scan;
mod token;

use tailmill_filter::prelude::*;
use tailmill_filters_shared::{Captures, Finder, Span};

pub use config::Config;
use config::{Detect, Settings};
use replace::Replacer;
use token::Tokens;

/// The filter.
pub struct Redact {
    detect: Detect,
    custom: Vec<Custom>,
    replacer: Replacer,
    /// What was found in the current line. Kept only to reuse its memory.
    found: Vec<Found>,
}

/// A custom pattern.
struct Custom {
    name: String,
    search: Search,
}

/// What of a match is the secret.
enum Search {
    Whole(Box<Finder>),
    /// The group of this number.
    Group(Box<Captures>, usize),
}

/// A part of the line that must go.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    span: Span,
    kind: Kind,
}

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Email,
    Card,
    Token,
    /// The custom pattern of this number.
    Custom(usize),
}

#[filter]
impl Filter for Redact {
    type Config = Config;

    fn start(config: Config) -> Result<Redact, String> {
        let Settings { detect, patterns, replacer } = config.settings()?;
        let custom = patterns.into_iter().map(|(name, pattern)| {
            let captures = Captures::new(&pattern)?;
            let secret = captures.names().into_iter().find(|(_, name)| name == "secret");
            let search = match secret {
                Some((group, _)) => Search::Group(Box::new(captures), group),
                None => Search::Whole(Box::new(Finder::new(&pattern)?)),
            };
            Ok(Custom { name, search })
        });
        Ok(Redact { detect, custom: custom.collect::<Result<_, String>>()?, replacer, found: Vec::new() })
    }

    fn traits(&self) -> Traits {
        let traits = Traits::stateless().keep_skipped(true);
        // Mail addresses alone are given away by one byte, which the host looks for.
        let email_alone = self.detect == Detect { email: true, ..Detect::default() } && self.custom.is_empty();
        if email_alone { traits.needle("@") } else { traits }
    }

    #[inline]
    fn line(&mut self, line: &[u8], ctx: &mut Ctx) -> Result<Verdict, String> {
        self.find(line);
        if self.found.is_empty() {
            return Ok(Verdict::Keep);
        }
        self.rewrite(line, ctx);
        self.found.clear();
        Ok(Verdict::Emitted)
    }
}

impl Redact {
    fn find(&mut self, line: &[u8]) {
        let found = &mut self.found;
        let Detect { email, token, .. } = self.detect;
        if email || token {
            let mut tokens = Tokens::default();
            scan::pairs(line, |at, kinds| {
                if token {
                    tokens.look(line, at, kinds, &mut |span| found.push(Found { span, kind: Kind::Token }));
                }
                if email && kinds & scan::AT != 0 {
                    found.extend(email::around(line, at).map(|span| Found { span, kind: Kind::Email }));
                }
            });
        }
        if self.detect.card {
            card::find(line, &mut |span| found.push(Found { span, kind: Kind::Card }));
        }
        for (at, custom) in self.custom.iter_mut().enumerate() {
            custom.search.find(line, &mut |span| found.push(Found { span, kind: Kind::Custom(at) }));
        }
    }

    fn rewrite(&mut self, line: &[u8], ctx: &mut Ctx) {
        // Where two overlap, the first stands for both, over the length of both. At the same place the longer one is first.
        self.found.sort_by_key(|found| (found.span.start, std::cmp::Reverse(found.span.end)));
        self.found.dedup_by(|next, before| {
            let overlap = next.span.start < before.span.end;
            if overlap {
                before.span.end = before.span.end.max(next.span.end);
            }
            overlap
        });
        let (found, custom, replacer) = (&self.found, &self.custom, &self.replacer);
        ctx.emit_with(|out| {
            let mut done = 0;
            for Found { span, kind } in found {
                out.extend(&line[done..span.start]);
                let name = match kind {
                    Kind::Email => "email",
                    Kind::Card => "card",
                    Kind::Token => "token",
                    Kind::Custom(at) => &custom[*at].name,
                };
                replacer.write(*kind, name, &line[span.clone()], out);
                done = span.end;
            }
            out.extend(&line[done..]);
        });
    }
}

impl Search {
    fn find(&mut self, line: &[u8], each: &mut dyn FnMut(Span)) {
        match self {
            Search::Whole(finder) => finder.find_all(line, |span| {
                if !span.is_empty() {
                    each(span);
                }
            }),
            Search::Group(captures, group) => {
                let mut from = 0;
                while from <= line.len() && captures.search(line, from) {
                    let whole = captures.group(0).map_or(line.len(), |span| span.end);
                    if let Some(span) = captures.group(*group).filter(|span| !span.is_empty()) {
                        each(span);
                    }
                    from = whole.max(from + 1);
                }
            }
        }
    }
}
