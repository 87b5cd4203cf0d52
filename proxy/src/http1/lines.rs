//! Finds the end of a section of lines, each ended by CR LF.

use super::Malformed;

/// How far a section was looked through. Each byte is looked at once, however it arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    seen: usize,
    line: usize,
}

impl Lines {
    /// The length of the section, with the empty line that ends it; none yet if it did not come.
    ///
    /// # Errors
    /// A line that ends in LF alone.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let from = self.seen;
        for at in memchr::memchr_iter(b'\n', &bytes[from..]) {
            let at = from + at;
            if at == self.line || bytes[at - 1] != b'\r' {
                return Err(Malformed::BareLf);
            }
            if at == self.line + 1 {
                *self = Self::default();
                return Ok(Some(at + 1));
            }
            self.line = at + 1;
        }
        self.seen = bytes.len();
        Ok(None)
    }

    /// Whether the first line is complete.
    pub(super) fn has_one(self) -> bool {
        self.line > 0
    }
}
