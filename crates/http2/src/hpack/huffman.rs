//! The Huffman code for strings (RFC 7541 section 5.2, appendix B), decoded only.
//!
//! The code is canonical: codes of one length are consecutive in the order of their symbols, and
//! follow on those that are shorter. The lengths hence say all, and the tables are made of them when
//! this is compiled. It refuses EOS in a string, and padding that is not its first bits, up to seven.

use super::DecodeError;

const SYMBOLS: usize = 257;
const END_OF_STRING: u16 = 256;
const LONGEST: usize = 30;
/// Codes up to this length are found in one step: those of all but rare characters.
const QUICK: u32 = 10;

/// The length of each symbol's code in bits; the last is EOS.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6,
     5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10,
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,
     7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6,
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,
     6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

static CODE: Code = Code::new();

const _: () = assert!(
    Code::new().lengths[LONGEST].1 == 1 << LONGEST,
    "every bit string is of codes"
);

struct Code {
    /// By the first bits: the length of the code in the high octet, its symbol in the low one.
    quick: [u16; 1 << QUICK],
    /// By length: the first code, the first that is longer, and where its symbol is in `symbols`.
    lengths: [(u32, u32, u16); LONGEST + 1],
    /// By code.
    symbols: [u16; SYMBOLS],
}

/// Appends what `text` stands for to `out`: at most eight fifths of its length.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    out.reserve(text.len() * 8 / 5);
    let mut rest = text;
    let (mut window, mut bits) = (0u64, 0u32);
    loop {
        fill(&mut rest, &mut window, &mut bits);
        if bits == 0 {
            return Ok(());
        }
        loop {
            let (symbol, length) = CODE.first((window >> 32) as u32);
            if length > bits {
                return padding(window, bits);
            }
            if symbol == END_OF_STRING {
                return Err(DecodeError::EndOfString);
            }
            out.push(symbol as u8);
            window <<= length;
            bits -= length;
            if bits < 32 {
                break;
            }
        }
    }
}

/// Fills `window`, whose first `bits` bits are of the string and the rest zero.
fn fill(rest: &mut &[u8], window: &mut u64, bits: &mut u32) {
    while *bits <= 56
        && let Some((first, after)) = rest.split_first()
    {
        *window |= u64::from(*first) << (56 - *bits);
        *bits += 8;
        *rest = after;
    }
}

/// What is left is no whole code: it may be the padding, the first bits of EOS.
fn padding(window: u64, bits: u32) -> Result<(), DecodeError> {
    if bits < 8 && window.leading_ones() == bits {
        Ok(())
    } else {
        Err(DecodeError::Padding)
    }
}

impl Code {
    const fn new() -> Self {
        let mut code = Self {
            quick: [0; 1 << QUICK],
            lengths: [(0, 0, 0); LONGEST + 1],
            symbols: [0; SYMBOLS],
        };
        let (mut next, mut place, mut length) = (0u32, 0, 1);
        while length <= LONGEST {
            let (first, start) = (next, place as u16);
            let mut symbol = 0;
            while symbol < SYMBOLS {
                if LENGTHS[symbol] as usize == length {
                    code.symbols[place] = symbol as u16;
                    code.add_quick(next, length as u32, symbol as u16);
                    next += 1;
                    place += 1;
                }
                symbol += 1;
            }
            code.lengths[length] = (first, next, start);
            next <<= 1;
            length += 1;
        }
        code
    }

    const fn add_quick(&mut self, code: u32, length: u32, symbol: u16) {
        if length > QUICK {
            return;
        }
        let mut place = code << (QUICK - length);
        while place < (code + 1) << (QUICK - length) {
            self.quick[place as usize] = ((length as u16) << 8) | symbol;
            place += 1;
        }
    }

    /// The symbol of the code that `window` starts with, and its length.
    fn first(&self, window: u32) -> (u16, u32) {
        let quick = self.quick[(window >> (32 - QUICK)) as usize];
        if quick != 0 {
            return (quick & 0xff, u32::from(quick >> 8));
        }
        for length in QUICK + 1..LONGEST as u32 {
            let code = window >> (32 - length);
            let (first, past, start) = self.lengths[length as usize];
            if code < past {
                return (
                    self.symbols[usize::from(start) + (code - first) as usize],
                    length,
                );
            }
        }
        let (first, _, start) = self.lengths[LONGEST];
        let code = window >> (32 - LONGEST);
        (
            self.symbols[usize::from(start) + (code - first) as usize],
            LONGEST as u32,
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn what_is_coded_is_decoded(text in vec(any::<u8>(), 0..60)) {
            let mut decoded = Vec::new();
            decode(&code(&text), &mut decoded).unwrap();
            prop_assert_eq!(decoded, text);
        }

        #[test]
        fn any_bytes_are_decoded_to_at_most_eight_fifths(text in vec(any::<u8>(), 0..60)) {
            let mut decoded = Vec::new();
            let result = decode(&text, &mut decoded);
            prop_assert!(decoded.len() <= text.len() * 8 / 5);
            if result.is_ok() {
                prop_assert_eq!(code(&decoded), text);
            }
        }
    }

    /// The codes of `text`, and ones up to the next octet.
    fn code(text: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for symbol in text {
            let length = LENGTHS[usize::from(*symbol)].into();
            let (first, _, start) = CODE.lengths[length];
            let symbols = &CODE.symbols[usize::from(start)..];
            let place = symbols
                .iter()
                .position(|s| *s == u16::from(*symbol))
                .unwrap();
            bits += &format!("{:0length$b}", first as usize + place);
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        let octets = bits.as_bytes().chunks(8);
        octets
            .map(|octet| octet.iter().fold(0, |all, bit| all << 1 | (bit - b'0')))
            .collect()
    }
}
