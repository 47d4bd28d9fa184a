use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// What is found in a text: kind, offset, excerpt.
fn found(bytes: &[u8]) -> Vec<(&'static str, u64, String)> {
    let mut leaks = Leaks::new();
    leaks.scan("file", &mut &bytes[..]).unwrap();
    leaks.found().iter().map(|leak| (leak.kind, leak.offset, leak.excerpt.clone())).collect()
}

/// Characters that no generator made for this test alone: the same each time, in disorder.
fn noise(alphabet: &[u8], count: usize) -> String {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    (0..count).map(|_| char::from(alphabet[next() % alphabet.len()])).collect()
}

const WORD: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A token as GitHub and npm make them.
fn with_checksum(prefix: &str) -> String {
    let body = noise(WORD, 30);
    let mut rest = crc32fast::hash(body.as_bytes()) as usize;
    let mut sum = Vec::new();
    for _ in 0..6 {
        sum.push(char::from(WORD[rest % 62]));
        rest /= 62;
    }
    format!("{prefix}{body}{}", sum.iter().rev().collect::<String>())
}

fn encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A key that nobody has: noise behind the beginning of a DER sequence.
fn key(label: &str, end_of_line: &str) -> String {
    let mut body = String::new();
    for line in noise(&WORD[..62], 320).as_bytes().chunks(64) {
        write!(body, "{}{end_of_line}", std::str::from_utf8(line).unwrap()).unwrap();
    }
    format!("-----BEGIN {label}-----{end_of_line}MIIE{body}-----END {label}-----{end_of_line}")
}

/// One of every kind, with the part that must not be shown.
fn samples() -> Vec<(&'static str, String, String)> {
    let plain = |kind, prefix: &str, alphabet: &[u8], count| {
        let secret = noise(alphabet, count);
        (kind, format!("{prefix}{secret}"), secret)
    };
    let base64 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/";
    let part = |text: &str| text[text.len() - 20..].to_owned();
    let github = with_checksum("ghp_");
    let npm = with_checksum("npm_");
    let pem = key("RSA PRIVATE KEY", "\n");
    let json = key("PRIVATE KEY", "\\n");
    let twice = encode(key("EC PRIVATE KEY", "\n").as_bytes());
    let basic = encode(b"deploy:Tr0ub4dor&3x");
    let claims = encode(br#"{"iss":"kubernetes/serviceaccount","kubernetes.io":{"namespace":"x"}}"#);
    let jwt = format!("{}.{}.{}", encode(br#"{"alg":"RS256","kid":"x"}"#), claims, noise(WORD, 86)).replace('=', "");
    vec![
        ("private-key", pem.clone(), pem[100..160].to_owned()),
        ("private-key", json.clone(), json[60..100].to_owned()),
        ("private-key", format!("client-key-data: {twice}\n"), part(&twice)),
        plain("private-key", "AGE-SECRET-KEY-1", b"ACDEFGHJKLMNPQRSTUVWXYZ023456789", 58),
        plain("aws-key-id", "AKIA", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16),
        plain("aws-secret-key", "aws_secret_access_key = ", base64, 40),
        ("github-token", github.clone(), part(&github)),
        plain("github-token", "github_pat_", WORD, 82),
        plain("gitlab-token", "glpat-", WORD, 20),
        plain("slack-token", "xoxb-123456789012-123456789013-", WORD, 24),
        plain("slack-token", "https://hooks.slack.com/services/T0123ABCD/B0123ABCD/", WORD, 24),
        plain("pypi-token", "pypi-AgEIcHlwaS5vcmc", WORD, 150),
        ("npm-token", npm.clone(), part(&npm)),
        plain("docker-token", "dckr_pat_", WORD, 27),
        ("docker-auth", format!("{{\"auths\": {{\"r\": {{\"auth\": \"{basic}\"}}}}}}"), basic.clone()),
        plain("google-api-key", "AIza", WORD, 35),
        plain("stripe-key", "sk_live_", WORD, 24),
        plain("vault-token", "hvs.", WORD, 95),
        plain("model-api-key", "sk-ant-", WORD, 95),
        plain("model-api-key", "hf_", WORD, 34),
        ("kubernetes-token", jwt.clone(), part(&jwt)),
        ("basic-auth", format!("Authorization: Basic {basic}\r\n"), basic),
        ("url-credentials", "https://deploy:h7Gq2-zz81L@git.corp.net/x".to_owned(), "h7Gq2-zz81L".to_owned()),
        ("url-credentials", "postgresql://app:9f8e7d6c5b4a@db.internal/x".to_owned(), "9f8e7d6c5b4a".to_owned()),
    ]
}

#[test]
fn every_kind_is_found_and_hidden() {
    for (kind, text, secret) in samples() {
        let bytes = [b"\0some text before: ", text.as_bytes(), b"\0 and behind"].concat();
        let all = found(&bytes);
        assert_eq!(all.len(), 1, "{kind}: {text}: {all:?}");
        assert_eq!(all[0].0, kind, "{text}");
        assert!(!all[0].2.contains(&secret), "{kind} shows its secret: {}", all[0].2);
        assert!(all[0].1 < bytes.len() as u64);
    }
    let with_samples: HashSet<&str> = samples().into_iter().map(|(kind, ..)| kind).collect();
    let without: Vec<&str> = kinds().filter(|kind| !with_samples.contains(kind)).collect();
    assert_eq!(without, ["sendgrid-key"], "their alphabet has a dot at a fixed place");
    let sendgrid = format!("SG.{}.{}", noise(WORD, 22), noise(WORD, 43));
    assert_eq!(found(sendgrid.as_bytes())[0].0, "sendgrid-key");
}

#[test]
fn documentation_and_names_are_no_secrets() {
    for text in [
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----\0-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "AKIAIOSFODNN7EXAMPLE",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "aws_secret_access_key, aws_session_token, region_name=None, profile_name=None",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "ghp_abcdefghijklmnopqrstuvwxyzABCD012345",
        "npm_config_cache_directory_of_the_user_name",
        "npm_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
        "glpat-xxxxxxxxxxxxxxxxxxxx",
        "gldt-glrt-glcbt-glptt-glsoat-slack-tokenxoxb-xoxp-xoxa-xoxr-xoxs-xapp-1-hooks.slack.com/services/",
        "xoxb-your-token-goes-here",
        "xoxb-111111111111-222222222222-xxxxxxxxxxxxxxxxxxxxxxxx",
        "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        "Authorization: Basic YWxhZGRpbjpvcGVuc2VzYW1l",
        "Authorization: Basic %s",
        "http://user:password@host:80/",
        "http://user:pass@example.com/",
        "https://username:p4ssw0rdXY@example.com/",
        "postgresql://scott:tiger@localhost/test",
        "https://%s:%s@%s/",
        "https://{user}:{password}@{host}/",
        "ftp://joe:$PASSWORD@ftp.gnu.org/",
        "https://docs.python.org/3/library/index.html",
        "hf_transformers_model_configuration_x",
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        "{\"auth\": \"bm9uZQ==\"}",
    ] {
        assert_eq!(found(text.as_bytes()), [], "{text}");
    }
}

#[test]
fn a_token_of_githubs_documentation_has_its_checksum() {
    assert_eq!(found(b"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")[0].0, "github-token");
    assert_eq!(found(b"ghp_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18"), []);
}

#[test]
fn a_secret_is_found_wherever_it_lies_and_told_once() {
    let token = with_checksum("ghp_");
    for at in [0, 1, BLOCK - 7, BLOCK, BLOCK + AHEAD - 3, BLOCK + AHEAD + BEHIND, 3 * BLOCK + 11] {
        let mut bytes = vec![b'.'; 4 * BLOCK];
        bytes[at..at + token.len()].copy_from_slice(token.as_bytes());
        bytes.extend_from_slice(token.as_bytes());
        let all = found(&bytes);
        assert_eq!(all.len(), 1, "at {at}");
        assert_eq!(all[0].1, at as u64);
    }
}

#[test]
fn a_file_full_of_secrets_does_not_fill_the_memory() {
    let mut text = String::new();
    for n in 0..300_u32 {
        writeln!(text, "https://deploy:h7Gq2-zz{n:05}L@git.corp.net/x").unwrap();
    }
    let mut leaks = Leaks::new();
    assert_eq!(leaks.scan("x", &mut text.as_bytes()).unwrap(), text.len() as u64);
    assert_eq!((leaks.found().len(), leaks.more()), (MOST, 200));
}

proptest! {
    /// Whatever comes, nothing panics.
    #[test]
    fn any_bytes_are_read(parts in prop::collection::vec(part(), 0..40)) {
        let bytes = parts.concat();
        let mut leaks = Leaks::new();
        prop_assert_eq!(leaks.scan("x", &mut bytes.as_slice()).unwrap(), bytes.len() as u64);
    }

    /// A password of an address is never shown, in whole or in half.
    #[test]
    fn passwords_of_addresses_are_hidden(password in "[A-Za-z0-9]{12,40}") {
        let text = format!("https://deploy:{password}@git.corp.net/x");
        for (_, _, excerpt) in found(text.as_bytes()) {
            prop_assert!(!excerpt.contains(&password[..6]), "{}", excerpt);
        }
    }
}

/// What anchors a rule, or anything.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let anchors: Vec<&'static str> = RULES.iter().flat_map(|rule| rule.anchors.iter().copied()).collect();
    prop_oneof![
        prop::sample::select(anchors).prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..60),
        "[A-Za-z0-9:@/._ -]{0,60}".prop_map(String::into_bytes),
        Just(b"PRIVATE KEY-----\nMIIEabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP\n-----END ".to_vec()),
    ]
}
