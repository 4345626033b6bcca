//! Keeps or drops lines by words and regular expressions.
//!
//! A line goes on when it has one of what is included (if anything is) and nothing of what is excluded. What a line must
//! hold to be of any interest is declared as needles: lines without never enter wasm. Where literals alone decide, nothing
//! is left to do here.

mod config;

use memchr::memmem;
use tailmill_filter::prelude::*;
use tailmill_filters_shared::{AnyCase, Matcher};

pub use config::Config;
use config::Side;

/// The filter.
pub struct Grep {
    include: Option<Search>,
    exclude: Option<Search>,
    traits: Traits,
}

/// Whether a line has something.
enum Search {
    /// What reaches us holds one of the needles, and that decides: the host has looked.
    Done,
    Literals(Vec<memmem::Finder<'static>>),
    AnyCase(Vec<AnyCase>),
    Patterns(Box<Matcher>),
}

/// Above this many literals one automaton is faster than a search for each.
const FINDERS_MAX: usize = 3;

#[filter]
impl Filter for Grep {
    type Config = Config;

    fn start(config: Config) -> Result<Grep, String> {
        let (include, exclude) = config.sides()?;
        let mut traits = Traits::stateless().keep_skipped(include.is_empty());
        let by_needles = if include.is_empty() { &exclude } else { &include };
        traits.needles = by_needles.needles().unwrap_or_default();
        let search = |side: &Side| match std::ptr::eq(side, by_needles) && side.literals_alone() && !side.ignore_case {
            true => Ok(Some(Search::Done)),
            false => Search::new(side),
        };
        Ok(Grep { include: search(&include)?, exclude: search(&exclude)?, traits })
    }

    fn traits(&self) -> Traits {
        self.traits.clone()
    }

    #[inline]
    fn line(&mut self, line: &[u8], _ctx: &mut Ctx) -> Result<Verdict, String> {
        let included = self.include.as_mut().is_none_or(|search| search.finds(line));
        let keeps = included && !self.exclude.as_mut().is_some_and(|search| search.finds(line));
        Ok(if keeps { Verdict::Keep } else { Verdict::Drop })
    }
}

impl Search {
    fn new(side: &Side) -> Result<Option<Search>, String> {
        if side.is_empty() {
            return Ok(None);
        }
        if side.literals_alone() && side.literals.len() <= FINDERS_MAX {
            let literals = side.literals.iter().map(|literal| literal.as_bytes());
            if !side.ignore_case {
                let finders = literals.map(|literal| memmem::Finder::new(literal).into_owned());
                return Ok(Some(Search::Literals(finders.collect())));
            }
            if let Some(texts) = literals.map(AnyCase::new).collect() {
                return Ok(Some(Search::AnyCase(texts)));
            }
        }
        Ok(Some(Search::Patterns(Box::new(Matcher::new(&side.all()?)?))))
    }

    #[inline]
    fn finds(&mut self, line: &[u8]) -> bool {
        match self {
            Search::Done => true,
            Search::Literals(finders) => finders.iter().any(|finder| finder.find(line).is_some()),
            Search::AnyCase(texts) => texts.iter().any(|text| text.is_in(line)),
            Search::Patterns(patterns) => patterns.is_match(line),
        }
    }
}
