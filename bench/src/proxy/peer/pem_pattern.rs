//! A regular expression that finds bytes inside PEM: for proxies that hand out a certificate as
//! text and cannot look into it.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Finds `needle` wherever it starts in its base64 group, across line ends, to the last bit.
pub(super) fn pem_pattern(needle: &[u8]) -> String {
    let starts: Vec<String> = (0..3).map(|offset| pattern(needle, offset)).collect();
    format!("(?:{})", starts.join("|"))
}

fn pattern(needle: &[u8], offset: usize) -> String {
    let mut bits = vec![None; offset * 8];
    for byte in needle {
        bits.extend((0..8).rev().map(|bit| Some(byte >> bit & 1 == 1)));
    }
    bits.resize(bits.len().next_multiple_of(6), None);
    let letters = bits.chunks(6).map(letters);
    let known: Vec<String> = letters.filter(|letters| !letters.is_empty()).collect();
    known.join(r"\n?")
}

/// The letters that these six bits can be; nothing when none of them is known.
fn letters(bits: &[Option<bool>]) -> String {
    if bits.iter().all(Option::is_none) {
        return String::new();
    }
    let fits = |value: &usize| {
        let is = |(place, bit): (usize, &Option<bool>)| {
            bit.is_none_or(|bit| bit == (value >> (5 - place) & 1 == 1))
        };
        bits.iter().enumerate().all(is)
    };
    let letters: String = (0..64)
        .filter(fits)
        .map(|value| char::from(ALPHABET[value]))
        .collect();
    format!("[{letters}]")
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;

    /// What the pattern says about one text, for patterns of one-letter classes and line ends.
    fn finds(needle: &[u8], text: &str) -> bool {
        let flat: Vec<char> = text.chars().filter(|letter| *letter != '\n').collect();
        (0..3).any(|offset| {
            let pattern = pattern(needle, offset);
            let classes: Vec<&str> = pattern.split(r"\n?").collect();
            flat.windows(classes.len()).any(|window| {
                let mut pairs = window.iter().zip(&classes);
                pairs.all(|(letter, class)| class[1..class.len() - 1].contains(*letter))
            })
        })
    }

    #[test]
    fn a_longer_or_other_name_is_not_found() {
        let needle = b"\x86\x0cspiffe://a/b";
        assert!(!finds(
            needle,
            &BASE64.encode(b"....\x86\x0dspiffe://a/bc...")
        ));
        assert!(!finds(
            needle,
            &BASE64.encode(b"....\x86\x0cspiffe://a/c....")
        ));
    }

    #[test]
    fn the_name_is_found_wherever_it_starts() {
        for before in 0..6 {
            let text = [&vec![b'.'; before], &b"\x86\x0cspiffe://a/b."[..]].concat();
            assert!(finds(b"\x86\x0cspiffe://a/b", &BASE64.encode(&text)));
        }
    }
}
