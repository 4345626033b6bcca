//! What a filter says about one line, and about itself.

/// What becomes of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The line goes on as it came.
    Keep,
    /// The line goes no further.
    Drop,
    /// This goes on in place of the line. (No newline at the end: lines are without terminators.)
    Replace(Vec<u8>),
    /// What was emitted through [`Ctx`](crate::Ctx) goes on in place of the line.
    Emitted,
    /// The filter keeps a [`Held`](crate::Held) for the line and decides later.
    Hold,
}

/// What the annotated function may return: a [`Verdict`], a `bool` (true keeps), or a `Result` of either. An `Err` is a
/// fault on this line: the entry's `on_error` decides what becomes of it.
pub trait IntoVerdict {
    /// The verdict, or why there is none.
    fn into_verdict(self) -> Result<Verdict, String>;
}

impl IntoVerdict for Verdict {
    #[inline]
    fn into_verdict(self) -> Result<Verdict, String> {
        Ok(self)
    }
}

impl IntoVerdict for bool {
    #[inline]
    fn into_verdict(self) -> Result<Verdict, String> {
        Ok(if self { Verdict::Keep } else { Verdict::Drop })
    }
}

impl<V: IntoVerdict, E: std::fmt::Display> IntoVerdict for Result<V, E> {
    #[inline]
    fn into_verdict(self) -> Result<Verdict, String> {
        match self {
            Ok(value) => value.into_verdict(),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// What a filter tells the host about itself when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Every line is judged alone: one instance may serve many files. Such a filter never holds and never ticks.
    pub stateless: bool,
    /// Lines holding none of these byte strings never reach the filter; empty: all lines do. Only with `stateless`.
    pub needles: Vec<Vec<u8>>,
    /// What becomes of the lines that were skipped because of `needles`.
    pub keep_skipped: bool,
}

impl Traits {
    /// Judges every line alone.
    pub fn stateless() -> Traits {
        Traits { stateless: true, ..Traits::default() }
    }

    /// Remembers something from line to line: gets an instance of its own for every file.
    pub fn stateful() -> Traits {
        Traits::default()
    }

    /// Adds a literal that a line must hold to be of any interest. The host searches for it far faster than a filter can.
    #[must_use]
    pub fn needle(mut self, bytes: impl Into<Vec<u8>>) -> Traits {
        self.needles.push(bytes.into());
        self
    }

    /// Lines without any needle are kept instead of dropped.
    #[must_use]
    pub fn keep_skipped(mut self, keep: bool) -> Traits {
        self.keep_skipped = keep;
        self
    }

    /// Why the host could not honour these traits, if so.
    pub(crate) fn problem(&self) -> Option<String> {
        if !self.needles.is_empty() && !self.stateless {
            return Some("needles need a stateless filter: skipped lines would be missing from its count".into());
        }
        self.needles.iter().any(Vec::is_empty).then(|| "an empty needle is in every line: leave it out".into())
    }
}
