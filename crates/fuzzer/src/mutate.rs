//! Mutations of inputs.

use seeded::Random;

/// Bytes and numbers at which parsers change their mind.
const INTERESTING: [&[u8]; 14] = [
    b"\0",
    b"\xff",
    b"\x7f",
    b"\r\n",
    b"\"",
    b"%",
    b"*",
    b"-1",
    b"0",
    b"99999999999999999999",
    b"\xff\xff",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x80",
    b"\xf0\x9f\x8c\xa7",
];

/// Returns one to four mutations of an input of the pool, at most `max` bytes long.
pub(crate) fn mutated(pool: &[Vec<u8>], max: usize, random: &mut Random) -> Vec<u8> {
    let mut input = pool[random.index(pool.len())].clone();
    for _ in 0..=random.index(4) {
        mutate(&mut input, &pool[random.index(pool.len())], random);
    }
    input.truncate(max);
    input
}

fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.index(input.len() + 1);
    match random.index(8) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.index(8);
            }
        }
        1 => {
            let byte = random.index(256) as u8;
            if let Some(changed) = input.get_mut(at) {
                *changed = byte;
            }
        }
        2 => {
            let piece = INTERESTING[random.index(INTERESTING.len())];
            input.splice(at..at, piece.iter().copied());
        }
        3 => {
            let piece = INTERESTING[random.index(INTERESTING.len())];
            let end = (at + piece.len()).min(input.len());
            input.splice(at..end, piece.iter().copied());
        }
        4 => drop(input.drain(range(at, input.len(), random))),
        5 => {
            let piece = input[range(at, input.len(), random)].to_vec();
            let to = random.index(input.len() + 1);
            input.splice(to..to, piece);
        }
        6 => {
            let from = random.index(other.len() + 1);
            let piece = other[range(from, other.len(), random)].to_vec();
            input.splice(at..at, piece);
        }
        _ => input.truncate(at),
    }
}

/// Returns a range that begins at `from`, mostly a short one.
fn range(from: usize, length: usize, random: &mut Random) -> std::ops::Range<usize> {
    let most = match random.index(4) {
        0 => length - from,
        _ => (length - from).min(8),
    };
    from..from + random.index(most + 1)
}
