//! Tokens and passwords: what stands behind a telling key (`password=…`, `"api_key": "…"`), behind `Bearer`, between the user
//! and the host of a URL, and tokens that tell by their own first letters (JWT, AWS, GitHub, Slack, Stripe).
//!
//! [`scan`] finds the pairs of bytes that give them away; here is the closer look.

use tailmill_filters_shared::Span;

use crate::scan;

/// Keys whose value is a secret: in lower case, without `_` and `-`. A longer name that ends in one counts too.
const SECRET_KEYS: [&[u8]; 16] = [
    b"password",
    b"passwd",
    b"passphrase",
    b"pwd",
    b"secret",
    b"secretkey",
    b"clientsecret",
    b"token",
    b"apikey",
    b"accesskey",
    b"accesskeyid",
    b"privatekey",
    b"authkey",
    b"authorization",
    b"sessionid",
    b"credential",
];

/// Longest key that is looked at.
const KEY_BYTES_MAX: usize = 40;

/// Looks closer at hits of [`scan::pairs`]. No hit that an earlier look of its kind has walked over is looked at again: so a
/// line of a million hits is not walked a million times.
#[derive(Default)]
pub(crate) struct Tokens {
    /// For each kind of hit (bit): how far its looks have seen.
    seen: [usize; 8],
}

/// What a look at a hit gave, and how far it saw.
struct Look {
    found: Option<Span>,
    seen: usize,
}

impl Look {
    fn at(found: Option<Span>) -> Look {
        Look { seen: found.as_ref().map_or(0, |span| span.end), found }
    }
}

impl Tokens {
    /// `at`: the second byte of the pair. `kinds`: what it may be.
    pub(crate) fn look(&mut self, line: &[u8], at: usize, mut kinds: u8, each: &mut dyn FnMut(Span)) {
        while kinds != 0 {
            let bit = kinds.trailing_zeros() as usize;
            kinds &= kinds - 1;
            if at < self.seen[bit] {
                continue;
            }
            let look = match 1 << bit {
                scan::KEYED => Look::at(keyed(line, at)),
                scan::JWT => jwt(line, at),
                scan::AWS_KEY => Look::at(aws(line, at, b"AKIA", 1)),
                scan::AWS_SESSION => Look::at(aws(line, at, b"ASIA", 2)),
                scan::PREFIXED => Look::at(prefixed(line, at)),
                scan::SLACK => Look::at(slack(line, at - 1)),
                scan::SCHEME => Look::at(bearer(line, at - 1)),
                _ => Look::at(url_password(line, at)),
            };
            self.seen[bit] = look.seen;
            if let Some(span) = look.found {
                each(span);
            }
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

fn run(line: &[u8], from: usize, is_part: impl Fn(u8) -> bool) -> usize {
    from + line[from..].iter().take_while(|byte| is_part(**byte)).count()
}

fn begins_word(line: &[u8], at: usize) -> bool {
    at == 0 || !is_word(line[at - 1])
}

/// `Bearer TOKEN`, `Basic TOKEN`; `at` is the B.
fn bearer(line: &[u8], at: usize) -> Option<Span> {
    if !begins_word(line, at) {
        return None;
    }
    let start = at + [&b"Bearer "[..], b"Basic "].iter().find(|scheme| line[at..].starts_with(scheme))?.len();
    let end = run(line, start, is_token);
    // Below this it is a word of a sentence.
    (end - start >= 8).then_some(start..end)
}

/// The value behind `key=`, `key: `, `"key":"`, `key=>`; `at` is the `=` or the `:`.
fn keyed(line: &[u8], at: usize) -> Option<Span> {
    let mut key_end = at;
    while key_end > 0 && matches!(line[key_end - 1], b'"' | b'\'' | b' ' | b'\\') {
        key_end -= 1;
    }
    if !matches!(line[at], b'=' | b':') || key_end == 0 {
        return None;
    }
    let name = |byte: &u8| is_word(*byte) || *byte == b'-';
    let before = &line[key_end.saturating_sub(KEY_BYTES_MAX)..key_end];
    let key = &line[key_end - before.iter().rev().take_while(|byte| name(byte)).count()..key_end];
    if !is_secret(key) {
        return None;
    }
    value(line, at + 1)
}

fn is_secret(key: &[u8]) -> bool {
    let mut plain = [0; KEY_BYTES_MAX];
    let letters = key.iter().filter(|byte| !b"_-".contains(byte)).map(u8::to_ascii_lowercase);
    let length = plain.iter_mut().zip(letters).map(|(to, letter)| *to = letter).count();
    let plain = &plain[..length];
    SECRET_KEYS.iter().any(|secret| plain.ends_with(secret))
}

/// A value: in its quotes, or up to what ends it. The scheme in front of a token stays.
fn value(line: &[u8], from: usize) -> Option<Span> {
    let mut start = run(line, from, |byte| byte == b' ');
    if line.get(start) == Some(&b'>') {
        start = run(line, start + 1, |byte| byte == b' ');
    }
    let escaped = line.get(start) == Some(&b'\\');
    let quote = line.get(start + usize::from(escaped)).copied().filter(|byte| matches!(byte, b'"' | b'\''));
    let span = match quote {
        Some(quote) => {
            let start = start + usize::from(escaped) + 1;
            start..quoted_end(line, start, quote, escaped)
        }
        // Behind a colon and a space a bare word may be prose ("token: expired"): it goes too, in doubt.
        None => {
            let scheme = [&b"Bearer "[..], b"bearer ", b"Basic ", b"basic ", b"Token ", b"token "];
            let skip = scheme.iter().find(|scheme| line[start..].starts_with(scheme)).map_or(0, |scheme| scheme.len());
            let start = start + skip;
            start..run(line, start, |byte| !byte.is_ascii_whitespace() && !b"\"',;&)]}".contains(&byte))
        }
    };
    let harmless: [&[u8]; 5] = [b"", b"null", b"nil", b"true", b"false"];
    let text = &line[span.clone()];
    (!harmless.contains(&text) && text.iter().any(|byte| *byte != b'*')).then_some(span)
}

fn quoted_end(line: &[u8], start: usize, quote: u8, escaped: bool) -> usize {
    let mut at = start;
    while at < line.len() {
        if line[at] == quote {
            // In JSON inside JSON both quotes are escaped: the backslash before the second belongs to it.
            return if escaped && at > start && line[at - 1] == b'\\' { at - 1 } else { at };
        }
        at += if line[at] == b'\\' && !escaped { 2 } else { 1 };
    }
    line.len()
}

/// `scheme://user:PASSWORD@host`; `at` is the `@`. However long: access tokens stand there too. The walk ends at the `@`
/// before, so all walks together are one over the line.
fn url_password(line: &[u8], at: usize) -> Option<Span> {
    if line[at] != b'@' {
        return None;
    }
    let is_user = |byte: &u8| byte.is_ascii_graphic() && !b"/@\"'<>?#".contains(byte);
    let start = at - line[..at].iter().rev().take_while(|byte| is_user(byte)).count();
    let colon = start + line[start..at].iter().position(|byte| *byte == b':')?;
    (line[..start].ends_with(b"://") && colon + 1 < at).then_some(colon + 1..at)
}

/// `eyJ….eyJ….…` or `eyJ….….…`; `at` is the J.
fn jwt(line: &[u8], at: usize) -> Look {
    let is_start = |start: &usize| line[*start..].starts_with(b"eyJ") && begins_word(line, *start);
    let Some(start) = at.checked_sub(2).filter(is_start) else { return Look { found: None, seen: 0 } };
    let end = run(line, start, |byte| is_word(byte) || byte == b'-' || byte == b'.');
    let mut parts = line[start..end].split(|byte| *byte == b'.');
    // A header is at least {"alg":"none"} in base64; an encrypted token (JWE) has five parts.
    let is_jwt = parts.next().is_some_and(|part| part.len() >= 10)
        && parts.next().is_some_and(|part| part.len() >= 4)
        && parts.next().is_some();
    Look { found: is_jwt.then_some(start..end), seen: end }
}

/// `AKIA` or `ASIA` and sixteen capitals and digits; `at` lies `back` bytes behind its beginning.
fn aws(line: &[u8], at: usize, prefix: &[u8], back: usize) -> Option<Span> {
    let start = at.checked_sub(back).filter(|start| line[*start..].starts_with(prefix) && begins_word(line, *start))?;
    let end = run(line, start, is_word);
    let capitals = line[start..end].iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    (capitals && end - start == 20).then_some(start..end)
}

/// Prefixes of GitHub's and Stripe's tokens.
const PREFIXES: [&[u8]; 8] = [b"ghp", b"gho", b"ghu", b"ghs", b"ghr", b"github_pat", b"sk_live", b"rk_live"];

/// `PREFIX_TOKEN`; `at` is the last underscore of the prefix.
fn prefixed(line: &[u8], at: usize) -> Option<Span> {
    let prefix = PREFIXES.iter().find(|prefix| line[..at].ends_with(prefix))?;
    let start = at - prefix.len();
    if !begins_word(line, start) {
        return None;
    }
    let end = run(line, at + 1, is_word);
    (end - at > 20).then_some(start..end)
}

/// `xoxb-…` and its sisters; `at` is the first x.
fn slack(line: &[u8], at: usize) -> Option<Span> {
    let rest = &line[at..];
    let begins = rest.starts_with(b"xox") && rest.len() > 4 && b"abeoprs".contains(&rest[3]) && rest[4] == b'-';
    if !begins || !begins_word(line, at) {
        return None;
    }
    let end = run(line, at, |byte| is_word(byte) || byte == b'-');
    (end - at >= 20).then_some(at..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, wanted: &[&str]) {
        let (mut tokens, mut found) = (Tokens::default(), Vec::new());
        scan::pairs(line.as_bytes(), |at, kinds| {
            tokens.look(line.as_bytes(), at, kinds, &mut |span| found.push(line[span].to_string()));
        });
        assert_eq!(found, wanted, "{line}");
    }

    #[test]
    fn every_key_is_found_in_any_spelling() {
        for key in SECRET_KEYS {
            let key = String::from_utf8_lossy(key);
            for key in [key.to_string(), key.to_uppercase(), format!("my_{key}"), format!("\"{key}\" ")] {
                check(&format!("{key}=x1"), &["x1"]);
                check(&format!("{key}:x1"), &["x1"]);
            }
        }
    }

    #[test]
    fn the_value_of_a_telling_key_is_found() {
        check("user=bob password=hunter2 ok", &["hunter2"]);
        check("PASSWORD: hunter2, x", &["hunter2"]);
        check(r#"{"password":"a \"b\" c","x":1}"#, &[r#"a \"b\" c"#]);
        check(r#"{"db_password" : "x"}"#, &["x"]);
        check(r#"msg="{\"apiKey\":\"k-1\",\"x\":1}""#, &["k-1"]);
        check("?api_key=abc&x=1", &["abc"]);
        check("X-Api-Key: abc", &["abc"]);
        check("'client-secret' => 'abc'", &["abc"]);
        check("passphrase=correct-horse", &["correct-horse"]);
        check("access_token=a.b-c_d; path=/", &["a.b-c_d"]);
        check("session-id='s'", &["s"]);
        check("password=\"open end", &["open end"]);
    }

    #[test]
    fn a_scheme_stays_and_its_token_goes() {
        // By its key and by its scheme: what overlaps becomes one later.
        check("Authorization: Bearer abcdef.ghi", &["abcdef.ghi", "abcdef.ghi"]);
        check("authorization: basic dXNlcjpwYXNz", &["dXNlcjpwYXNz"]);
        check("sent Bearer abcdefgh12 to x", &["abcdefgh12"]);
        check("Bearer of news", &[]);
    }

    #[test]
    fn passwords_in_urls_are_found() {
        check("postgres://bob:s3cr3t@db:5432/x", &["s3cr3t"]);
        check("redis://:s3cr3t@db", &["s3cr3t"]);
        let long = "ya29.".to_string() + &"x".repeat(2_000);
        check(&format!("https://oauth2:{long}@git/x https://a@b:c@d"), &[&long]);
        check("http://host:8080/a@b", &[]);
        check("http://bob@host/", &[]);
    }

    #[test]
    fn tokens_are_known_by_their_first_letters() {
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        check(&format!("got {jwt}, ok"), &[jwt]);
        check("key AKIAIOSFODNN7EXAMPLE.", &["AKIAIOSFODNN7EXAMPLE"]);
        check("key ASIAIOSFODNN7EXAMPLE.", &["ASIAIOSFODNN7EXAMPLE"]);
        let github = format!("ghp_{}", "a1B2".repeat(9));
        check(&github, &[&github]);
        let pat = format!("github_pat_{}", "a1B2".repeat(9));
        check(&pat, &[&pat]);
        let stripe = ["sk", "live", &"a1B2".repeat(6)].join("_");
        check(&format!("<{stripe}>"), &[&stripe]);
        let slack = ["xoxb", "123456789012", "abcdefGHIJ"].join("-");
        check(&format!("at {slack}!"), &[&slack]);
    }

    #[test]
    fn a_secret_is_not_looked_into() {
        check("password=token=pwd=x", &["token=pwd=x"]);
        let pairs = "pwd=".repeat(100_000);
        check(&pairs, &[&pairs[4..]]);
        check(&"eyJ-".repeat(100_000), &[]);
        let slack = "xoxb-".repeat(100_000);
        check(&slack, &[&slack]);
    }

    #[test]
    fn what_is_no_secret_stays() {
        for line in [
            "2024-01-15T10:22:33.123Z INFO done: 3 items, x=1 path=/a/b:c",
            "password= ",
            "password=null token=\"\" secret=false",
            "password=*****",
            "tokens=17 tokenizer=x keyboard=y monkey=z",
            "eyJust.a.word AKIASHORT BAKIAIOSFODNN7EXAMPLE",
            "ghp_short x_ghp_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "::= =: =",
            "",
        ] {
            check(line, &[]);
        }
    }
}
