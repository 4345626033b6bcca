//! Card numbers: 12 to 19 digits, alone or in groups, of a known issuer, with the right check digit.

use std::ops::RangeInclusive;

use tailmill_filters_shared::Span;

const DIGITS_MIN: usize = 12;
const DIGITS_MAX: usize = 19;

/// First digits and lengths of what the issuers give out. (ISO/IEC 7812; the issuers' published ranges.)
/// Each: length of the prefix, the prefixes, the lengths of the number.
const ISSUERS: [(u32, RangeInclusive<u32>, RangeInclusive<usize>); 14] = [
    (1, 4..=4, 13..=13),       // Visa, old
    (1, 4..=4, 16..=16),       // Visa
    (1, 4..=4, 19..=19),       // Visa
    (2, 51..=55, 16..=16),     // Mastercard
    (4, 2221..=2720, 16..=16), // Mastercard
    (2, 34..=34, 15..=15),     // American Express
    (2, 37..=37, 15..=15),     // American Express
    (4, 6011..=6011, 16..=19), // Discover
    (3, 644..=659, 16..=19),   // Discover
    (2, 62..=62, 16..=19),     // UnionPay
    (4, 3528..=3589, 16..=19), // JCB
    (3, 300..=305, 14..=14),   // Diners Club
    (2, 36..=39, 14..=14),     // Diners Club
    (4, 5018..=5893, 12..=12), // Maestro, short
];

/// A number has at least this many bytes, so one of every so many bytes belongs to it: only those are looked at.
const STRIDE: usize = DIGITS_MIN;

pub(crate) fn find(line: &[u8], each: &mut dyn FnMut(Span)) {
    let mut at = STRIDE - 1;
    while at < line.len() {
        if !in_number(line[at]) {
            at += STRIDE;
            continue;
        }
        // Everything up to `at` that was passed over is not part of a number, or it was looked at.
        let start = at - line[..at].iter().rev().take_while(|byte| in_number(**byte)).count();
        let end = at + line[at..].iter().take_while(|byte| in_number(**byte)).count();
        if end - start >= DIGITS_MIN {
            in_run(line, start..end, each);
        }
        at = end + STRIDE;
    }
}

fn in_number(byte: u8) -> bool {
    byte.is_ascii_digit() || byte == b' ' || byte == b'-'
}

/// Looks for numbers in a run of digits, spaces and hyphens.
fn in_run(line: &[u8], run: Span, each: &mut dyn FnMut(Span)) {
    let mut at = run.start;
    while at < run.end {
        if !line[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        match number_at(line, at, run.end) {
            Some(end) => {
                each(at..end);
                at = end;
            }
            // The next group may begin one.
            None => at += line[at..run.end].iter().take_while(|byte| byte.is_ascii_digit()).count(),
        }
    }
}

/// Where the card number that begins at `start` ends, if one does. Groups are parted by the same single byte throughout.
fn number_at(line: &[u8], start: usize, run_end: usize) -> Option<usize> {
    if !is_alone_before(line, start) {
        return None;
    }
    let mut digits = [0; DIGITS_MAX];
    let (mut count, mut best, mut parted_by) = (0, None, None);
    let mut at = start;
    while at < run_end && count < DIGITS_MAX {
        let byte = line[at];
        if byte.is_ascii_digit() {
            digits[count] = byte - b'0';
            count += 1;
            let ends_here = !line.get(at + 1).is_some_and(u8::is_ascii_digit);
            if ends_here && is_card(&digits[..count]) && is_alone_after(line, at + 1) {
                best = Some(at + 1);
            }
        } else if !line[at - 1].is_ascii_digit() || *parted_by.get_or_insert(byte) != byte {
            break;
        }
        at += 1;
    }
    best
}

/// Not in the middle of a word, of an identifier or of a decimal number.
fn is_alone_before(line: &[u8], start: usize) -> bool {
    match line[..start] {
        [.., before, b'.' | b','] if before.is_ascii_digit() => false,
        [.., before] => !(before.is_ascii_alphanumeric() || before == b'_'),
        [] => true,
    }
}

fn is_alone_after(line: &[u8], end: usize) -> bool {
    match line[end..] {
        [b'.' | b',', after, ..] if after.is_ascii_digit() => false,
        [after, ..] => !(after.is_ascii_alphanumeric() || after == b'_'),
        [] => true,
    }
}

fn is_card(digits: &[u8]) -> bool {
    digits.len() >= DIGITS_MIN && has_issuer(digits) && passes_luhn(digits)
}

fn has_issuer(digits: &[u8]) -> bool {
    let first = |length: u32| digits[..length as usize].iter().fold(0, |sum, digit| sum * 10 + u32::from(*digit));
    ISSUERS
        .iter()
        .any(|(length, prefixes, lengths)| lengths.contains(&digits.len()) && prefixes.contains(&first(*length)))
}

/// Luhn's check (ISO/IEC 7812-1, annex B): from the right every second digit counts double, its digits added.
fn passes_luhn(digits: &[u8]) -> bool {
    let doubled = |digit: u8| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let value = |(at, digit): (usize, &u8)| u32::from(if at % 2 == 1 { doubled(*digit) } else { *digit });
    digits.iter().rev().enumerate().map(value).sum::<u32>() % 10 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Vec<String> {
        let mut found = Vec::new();
        find(line.as_bytes(), &mut |span| found.push(line[span].to_string()));
        found
    }

    fn check(line: &str, wanted: &[&str]) {
        assert_eq!(found(line), wanted, "{line}");
    }

    // The numbers that issuers and payment services publish for tests.
    const CARDS: [&str; 9] = [
        "4111111111111111",
        "4222222222222",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "6011111111111117",
        "3530111333300000",
        "30569309025904",
        "6240008631401148",
    ];

    #[test]
    fn numbers_are_found_wherever_they_stand() {
        for card in CARDS {
            for before in 0..30 {
                let line = format!("{}:{card}: x", "a".repeat(before));
                check(&line, &[card]);
            }
            check(card, &[card]);
            check(&format!("1 {card}"), &[card]);
            check(&format!("\"{card}\",\"{card}\""), &[card, card]);
        }
    }

    #[test]
    fn numbers_may_come_in_groups() {
        check("card 4111 1111 1111 1111 ok", &["4111 1111 1111 1111"]);
        check("4111-1111-1111-1111", &["4111-1111-1111-1111"]);
        check("3782 822463 10005.", &["3782 822463 10005"]);
        check("12 4111 1111 1111 1111 99", &["4111 1111 1111 1111"]);
        check("2024-01-15 10:00 4111111111111111", &["4111111111111111"]);
        check("4111-1111 1111-1111", &[]);
        check("4111  1111  1111  1111", &[]);
    }

    #[test]
    fn other_numbers_stay() {
        check("4111111111111112", &[]);
        check("1700000000000 1699999999990", &[]);
        check("0.4111111111111111", &[]);
        check("4111111111111111.25", &[]);
        check("a4111111111111111 4111111111111111b _4111111111111111", &[]);
        check("41111111111111111111111111", &[]);
        check("0000000000000000", &[]);
        check("2024-01-15 10:22:33.123 192.168.100.200 2024-01-15", &[]);
    }

    #[test]
    fn luhn_finds_one_wrong_digit() {
        for card in CARDS {
            for at in 0..card.len() {
                let mut wrong = card.as_bytes().to_vec();
                wrong[at] = b'0' + (wrong[at] - b'0' + 1) % 10;
                let digits: Vec<u8> = wrong.iter().map(|byte| byte - b'0').collect();
                assert!(!passes_luhn(&digits), "{card} at {at}");
            }
        }
    }
}
