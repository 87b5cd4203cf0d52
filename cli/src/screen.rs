//! A terminal that is redrawn in place, with nothing but ANSI control sequences.

use std::io::{self, Write};

use rustix::termios::tcgetwinsize;

/// Clears the screen before the first drawing.
pub(crate) fn clear() -> io::Result<()> {
    io::stdout().write_all(b"\x1b[2J")
}

/// Draws the text over what was drawn before.
pub(crate) fn draw(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let text = match tcgetwinsize(&stdout) {
        Ok(size) => fit(text, size.ws_col.into(), size.ws_row.into()),
        Err(_) => text.to_owned(),
    };
    // Home, then each line with the rest of it erased, then the rest of the screen.
    let text = text.replace('\n', "\x1b[K\n");
    stdout.write_all(format!("\x1b[H{text}\x1b[J").as_bytes())?;
    stdout.flush()
}

/// What of the text a terminal of this size shows without wrapping or scrolling. Some say that they
/// have no size; they get all of it.
fn fit(text: &str, columns: usize, rows: usize) -> String {
    if columns == 0 || rows == 0 {
        return text.to_owned();
    }
    let cut = |line: &str| line.chars().take(columns).chain(['\n']).collect::<String>();
    text.lines().take(rows - 1).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_terminal_shows_the_first_columns_and_lines() {
        assert_eq!(fit("heading\nläßt\nlast\n", 3, 3), "hea\nläß\n");
        assert_eq!(fit("heading\n", 0, 0), "heading\n");
    }
}
