//! Which tile: its level, its place and how much of it there is, as paths name it
//! (c2sp.org/tlog-tiles, "Merkle Tree").

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Hashes, or entries, in a full tile: `2^8`.
pub const TILE_WIDTH: u16 = 256;

const HIGHEST_LEVEL: u8 = 63;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Content {
    /// Hashes of the complete subtrees of `2^(8 * level)` leaves.
    Hashes { level: u8 },
    /// The entries themselves.
    Entries,
}

/// A tile's path below the log's prefix, such as `tile/0/x001/x234/067.p/1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    content: Content,
    number: u64,
    width: u16,
}

/// Why a text names no tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TilePathError {
    #[error("the path of a tile is tile/<level>/<number> or tile/entries/<number>")]
    Form,
    #[error("a tile's level is a number from 0 to 63, without leading zeros")]
    Level,
    #[error("a tile's number is written in groups of three digits, all but the last with an x")]
    Number,
    #[error("a partial tile has a width from 1 to 255, without leading zeros")]
    Width,
}

impl TilePath {
    /// The tile with this content and number, with the first `width` of its hashes or entries.
    pub fn try_new(content: Content, number: u64, width: u16) -> Result<Self, TilePathError> {
        if matches!(content, Content::Hashes { level } if level > HIGHEST_LEVEL) {
            return Err(TilePathError::Level);
        }
        match width {
            1..=TILE_WIDTH => Ok(Self {
                content,
                number,
                width,
            }),
            _ => Err(TilePathError::Width),
        }
    }

    /// As much of the tile as a tree of `size` leaves has; `None` if it has nothing of it.
    #[must_use]
    pub fn in_tree(content: Content, number: u64, size: u64) -> Option<Self> {
        let level = match content {
            Content::Hashes { level } => level,
            Content::Entries => 0,
        };
        let hashes = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
        let start = number.checked_mul(u64::from(TILE_WIDTH))?;
        let width = hashes.checked_sub(start)?.min(u64::from(TILE_WIDTH));
        Self::try_new(content, number, u16::try_from(width).ok()?).ok()
    }

    #[must_use]
    pub fn content(&self) -> Content {
        self.content
    }

    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// 1 to 256.
    #[must_use]
    pub fn width(&self) -> u16 {
        self.width
    }

    #[must_use]
    pub fn is_full(&self) -> bool {
        self.width == TILE_WIDTH
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content {
            Content::Hashes { level } => write!(f, "tile/{level}/")?,
            Content::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = Vec::with_capacity(7);
        let mut rest = self.number;
        while rest >= 1000 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        groups.push(rest);
        for group in groups[1..].iter().rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups[0])?;
        match self.is_full() {
            true => Ok(()),
            false => write!(f, ".p/{}", self.width),
        }
    }
}

impl FromStr for TilePath {
    type Err = TilePathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("tile/").ok_or(TilePathError::Form)?;
        let (content, rest) = rest.split_once('/').ok_or(TilePathError::Form)?;
        let content = match content {
            "entries" => Content::Entries,
            level => Content::Hashes {
                level: small(level).ok_or(TilePathError::Level)?,
            },
        };
        let (number, width) = match rest.split_once(".p/") {
            None => (rest, TILE_WIDTH),
            Some((number, width)) => {
                let width: u8 = small(width).ok_or(TilePathError::Width)?;
                (number, u16::from(width))
            }
        };
        Self::try_new(content, grouped(number)?, width)
    }
}

/// A decimal number in its one form.
fn small(text: &str) -> Option<u8> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    canonical.then(|| text.parse().ok()).flatten()
}

fn grouped(text: &str) -> Result<u64, TilePathError> {
    let mut number: u64 = 0;
    let mut groups = text.split('/').peekable();
    let mut first = true;
    while let Some(group) = groups.next() {
        let digits = match groups.peek() {
            Some(_) => group.strip_prefix('x').ok_or(TilePathError::Number)?,
            None => group,
        };
        let shaped = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let padded = first && digits == "000" && groups.peek().is_some();
        if !shaped || padded {
            return Err(TilePathError::Number);
        }
        let value: u64 = digits.parse().map_err(|_| TilePathError::Number)?;
        number = number
            .checked_mul(1000)
            .and_then(|number| number.checked_add(value))
            .ok_or(TilePathError::Number)?;
        first = false;
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: TilePathError) {
        assert_eq!(text.parse::<TilePath>(), Err(expected));
    }

    #[test]
    fn what_is_no_tile_is_refused() {
        refused("checkpoint", TilePathError::Form);
        refused("tile/0", TilePathError::Form);
        refused("/tile/0/000", TilePathError::Form);
    }

    #[test]
    fn a_level_in_another_form_is_refused() {
        for level in ["64", "00", "01", "+1", "-1", "", "1e1"] {
            refused(&format!("tile/{level}/000"), TilePathError::Level);
        }
    }

    #[test]
    fn a_number_in_another_form_is_refused() {
        let numbers = [
            "0",
            "1234",
            "x001",
            "001/234",
            "x000/234",
            "x01/234",
            "+01",
            "x001//234",
            "",
            "x018/x446/x744/x073/x709/x551/616",
        ];
        for number in numbers {
            refused(&format!("tile/0/{number}"), TilePathError::Number);
        }
    }

    #[test]
    fn a_width_in_another_form_is_refused() {
        for width in ["0", "256", "01", "+1", "", "1/2"] {
            refused(&format!("tile/0/000.p/{width}"), TilePathError::Width);
        }
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        let tile = TilePath::try_new(Content::Hashes { level: 3 }, 1_234_067, 256).unwrap();
        assert_eq!(tile.to_string(), "tile/3/x001/x234/067");
        let partial = TilePath::try_new(Content::Entries, 273, 112).unwrap();
        assert_eq!(partial.to_string(), "tile/entries/273.p/112");
    }

    /// The example of c2sp.org/tlog-tiles: a tree of 70 000 leaves.
    #[test]
    fn a_tree_has_the_tiles_that_the_specification_lists() {
        let at = |level, number| TilePath::in_tree(Content::Hashes { level }, number, 70_000);
        let text = |tile: Option<TilePath>| tile.map(|tile| tile.to_string());
        assert_eq!(text(at(0, 272)).as_deref(), Some("tile/0/272"));
        assert_eq!(text(at(0, 273)).as_deref(), Some("tile/0/273.p/112"));
        assert_eq!(text(at(0, 274)), None);
        assert_eq!(text(at(1, 1)).as_deref(), Some("tile/1/001.p/17"));
        assert_eq!(text(at(2, 0)).as_deref(), Some("tile/2/000.p/1"));
        assert_eq!(text(at(3, 0)), None);
        assert_eq!(text(at(9, 0)), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn a_path_is_read_as_it_was_written(
            level in 0_u8..64, entries: bool, number: u64, width in 1_u16..=256
        ) {
            let content = if entries { Content::Entries } else { Content::Hashes { level } };
            let tile = TilePath::try_new(content, number, width).unwrap();
            prop_assert_eq!(tile.to_string().parse(), Ok(tile));
        }

        #[test]
        fn a_text_that_is_read_is_the_one_form_of_its_tile(
            text in "tile/([0-9]{1,2}|entries)/(x[0-9]{3}/){0,3}[0-9]{3}(\\.p/[0-9]{1,3})?"
        ) {
            if let Ok(tile) = text.parse::<TilePath>() {
                prop_assert_eq!(tile.to_string(), text);
            }
        }
    }
}
