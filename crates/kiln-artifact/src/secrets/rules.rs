//! What each kind of secret looks like.

use memchr::memmem;

use super::Secret;
use super::forms::{
    classes, decode, entropy, has_checksum, is_base64, is_base64_url, is_password, is_placeholder, is_word, run,
    user_of,
};

/// A place that a rule has to look at.
pub(super) struct Site<'a> {
    /// Some bytes before it.
    pub(super) before: &'a [u8],
    /// The bytes that led here.
    pub(super) anchor: &'a [u8],
    /// Some bytes behind these.
    pub(super) after: &'a [u8],
}

type Judge = for<'a> fn(&Site<'a>) -> Option<Secret<'a>>;

/// A kind of secret.
pub(super) struct Rule {
    pub(super) kind: &'static str,
    /// Bytes that it begins with or stands behind. None of them is the beginning of another rule's.
    pub(super) anchors: &'static [&'static str],
    pub(super) judge: Judge,
}

const fn rule(kind: &'static str, anchors: &'static [&'static str], judge: Judge) -> Rule {
    Rule { kind, anchors, judge }
}

/// All kinds; those of one name lie together.
#[rustfmt::skip]
pub(super) static RULES: &[Rule] = &[
    rule("private-key", &["-----BEGIN "], pem),
    rule("private-key", &["LS0tLS1CRUdJTi"], pem_in_base64),
    rule("private-key", &["AGE-SECRET-KEY-1"], |site| token(site, 58..=58, 4.0, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())),
    rule("private-key", &["RWRTY0Iy", "RWQAAEIy"], |site| token(site, 200..=210, 3.0, is_base64)),
    rule("aws-key-id", &["AKIA", "ASIA"], aws_id),
    rule("aws-secret-key", &["aws_secret_access_key", "AWS_SECRET_ACCESS_KEY", "SecretAccessKey"], aws_secret),
    rule("github-token", &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"], checked),
    rule("github-token", &["github_pat_"], |site| token(site, 82..=82, 4.0, |byte| is_word(byte) || byte == b'_')),
    rule("gitlab-token", &["glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glsoat-"], gitlab),
    rule("slack-token", &["xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xapp-1-"], slack),
    rule("slack-token", &["hooks.slack.com/services/"], slack_hook),
    rule("pypi-token", &["pypi-AgEIcHlwaS5vcmc", "pypi-AgENdGVzdC5weXBpLm9yZw"], |site| token(site, 50..=1000, 4.0, is_base64_url)),
    rule("npm-token", &["npm_"], checked),
    rule("docker-token", &["dckr_pat_", "dckr_oat_"], |site| token(site, 27..=32, 3.5, is_base64_url)),
    rule("docker-auth", &["\"auth\":"], docker_auth),
    rule("google-api-key", &["AIza"], |site| token(site, 35..=35, 4.0, is_base64_url)),
    rule("stripe-key", &["sk_live_", "rk_live_"], |site| token(site, 24..=250, 3.5, is_word)),
    rule("sendgrid-key", &["SG."], |site| token(site, 66..=66, 4.5, |byte| is_base64_url(byte) || byte == b'.')),
    rule("vault-token", &["hvs."], |site| token(site, 90..=300, 4.0, is_base64_url)),
    rule("model-api-key", &["sk-ant-", "sk-proj-"], |site| token(site, 40..=300, 4.3, is_base64_url)),
    rule("model-api-key", &["hf_"], |site| token(site, 34..=34, 4.0, is_word)),
    rule("kubernetes-token", &["eyJ"], kubernetes),
    rule("basic-auth", &["uthorization: Basic ", "uthorization: basic ", "uthorization\": \"Basic ", "uthorization': 'Basic "], basic),
    rule("url-credentials", &["://"], url),
];

/// Whether the place is inside of a longer word.
fn is_inside(site: &Site<'_>) -> bool {
    site.before.last().is_some_and(|byte| is_word(*byte) || *byte == b'_')
}

/// `ghp_… (40 characters)`.
fn hidden(site: &Site<'_>, value: &[u8]) -> String {
    format!("{}… ({} characters)", String::from_utf8_lossy(site.anchor), site.anchor.len() + value.len())
}

/// A beginning and a generated rest, of a length and an entropy that such a token has.
fn token<'a>(
    site: &Site<'a>,
    length: std::ops::RangeInclusive<usize>,
    least: f64,
    is_of: impl Fn(u8) -> bool,
) -> Option<Secret<'a>> {
    let value = run(site.after, length.end() + 1, is_of);
    let good = length.contains(&value.len()) && !is_inside(site) && is_generated(value) && entropy(value) >= least;
    (good && !value.ends_with(b"EXAMPLE")).then(|| Secret { value, excerpt: hidden(site, value) })
}

/// Whether there are capital letters and others: names and words of programs mostly have no such mixture.
fn is_generated(value: &[u8]) -> bool {
    value.iter().any(u8::is_ascii_uppercase)
        && value.iter().any(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// GitLab's: 20 characters, some behind a few others that say what it is for; or a longer one of three parts.
fn gitlab<'a>(site: &Site<'a>) -> Option<Secret<'a>> {
    let value = run(site.after, 301, |byte| is_base64_url(byte) || byte == b'.');
    let parts: Vec<&[u8]> = value.split(|byte| *byte == b'.').collect();
    let good = match parts.as_slice() {
        [one] => (20..=28).contains(&one.len()),
        [one, kind, sum] => one.len() >= 27 && kind.len() == 2 && (7..=9).contains(&sum.len()),
        _ => false,
    };
    let good = good && !is_inside(site) && is_generated(value) && entropy(value) >= 3.3;
    good.then(|| Secret { value, excerpt: hidden(site, value) })
}

/// A token of 36 characters with a checksum.
fn checked<'a>(site: &Site<'a>) -> Option<Secret<'a>> {
    let value = run(site.after, 37, is_word);
    let good = value.len() == 36 && !is_inside(site) && has_checksum(value);
    good.then(|| Secret { value, excerpt: hidden(site, value) })
}

/// The label of a block in PEM form that holds a private key, and what comes behind it.
fn key_label(after: &[u8]) -> Option<(&str, &[u8])> {
    let label = run(after, 40, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
    let rest = after[label.len()..].strip_prefix(b"-----")?;
    let label = std::str::from_utf8(label).ok()?;
    (label.ends_with("PRIVATE KEY") || label == "PGP PRIVATE KEY BLOCK").then_some((label, rest))
}

fn pem<'a>(site: &Site<'a>) -> Option<Secret<'a>> {
    let (label, rest) = key_label(site.after)?;
    let body = &rest[..memmem::find(rest, b"-----END ")?];
    // In JSON and in source text ends of lines are written as two characters.
    let mut text = Vec::with_capacity(body.len());
    let mut bytes = body.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' && bytes.next_if(|next| matches!(next, b'n' | b'r')).is_some() {
            text.push(b'\n');
        } else {
            text.push(byte);
        }
    }
    // Headers of old encrypted keys and of PGP end with an empty line.
    let is_header = |line: &[u8]| line.contains(&b':') && line.is_ascii();
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let value: Vec<u8> = lines.filter(|line| !is_header(line)).flatten().copied().collect();
    let data = run(&value, value.len(), |byte| is_base64(byte) || byte == b'=');
    let is_whole = data.len() == value.len() && data.len() >= 40 && entropy(data) >= 4.0;
    // DER starts with a sequence, OpenSSH's form with its name. Encrypted and PGP keys start with anything.
    let is_plain = !label.starts_with("PGP") && !body.contains(&b':');
    let is_key = !is_plain || data.starts_with(b"M") || data.starts_with(b"b3BlbnNzaC1rZXkt");
    let excerpt = format!("-----BEGIN {label}-----… ({} characters)", body.len());
    (is_whole && is_key).then_some(Secret { value: body, excerpt })
}

/// A key in PEM form that is base64 once more, as in a kubeconfig or a Kubernetes secret.
fn pem_in_base64<'a>(site: &Site<'a>) -> Option<Secret<'a>> {
    let value = run(site.after, site.after.len(), is_base64);
    let whole: Vec<u8> = site.anchor.iter().chain(value).copied().collect();
    let text = decode(&whole)?;
    let (label, rest) = key_label(text.strip_prefix(b"-----BEGIN ")?)?;
    (rest.len() >= 40).then(|| Secret { value, excerpt: format!("base64 of -----BEGIN {label}-----…") })
}

fn aws_id<'a>(site: &Site<'a>) -> Option<Secret<'a>> {
    let value = run(site.after, 17, |byte| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte));
    let after = site.after.get(value.len()).is_some_and(|byte| is_base64(*byte));
    let before = site.before.last().is_some_and(|byte| is_base64(*byte) || *byte == b'_');
    let good = value.len() == 16 && !before && !after && classes(value) == 2 && entropy(value) >= 2.8;
    (good && !value.ends_with(b"EXAMPLE")).then(|| Secret { value, excerpt: hidden(site, value) })
}

fn aws_secret<'a>(site: &Site<'a>) -> Option<Secret<'a>> {
    let gap = run(site.after, 16, |byte| matches!(byte, b' ' | b'\t' | b'"' | b'\'' | b'=' | b':' | b'>' | b','));
    let value = run(&site.after[gap.len()..], 41, is_base64);
    let good = value.len() == 40 && classes(value) >= 3 && entropy(value) >= 4.2 && !value.ends_with(b"EXAMPLEKEY");
    (good && !gap.is_empty()).then(|| Secret { value, excerpt: hidden(site, value) })
}

fn slack<'a>(site: &Site<'a>) -> Option<Secret<'a>> {
    let value = run(site.after, 400, |byte| is_word(byte) || byte == b'-');
    let mut parts = value.split(|byte| *byte == b'-');
    let (first, last) = (parts.next()?, parts.next_back()?);
    let is_id = first.len() >= 9 && first.iter().any(u8::is_ascii_digit);
    let good = is_id && last.len() >= 20 && classes(last) >= 2 && entropy(last) >= 3.0;
    (good && !is_inside(site)).then(|| Secret { value, excerpt: hidden(site, value) })
}

/// `hooks.slack.com/services/T…/B…/…`.
fn slack_hook<'a>(site: &Site<'a>) -> Option<Secret<'a>> {
    let value = run(site.after, 100, |byte| is_word(byte) || byte == b'/');
    let parts: Vec<&[u8]> = value.split(|byte| *byte == b'/').collect();
    let [team, bot, key] = parts.as_slice() else { return None };
    let ids = team.starts_with(b"T") && bot.starts_with(b"B") && team.len() >= 9 && bot.len() >= 9;
    let good = ids && key.len() == 24 && classes(key) >= 2 && entropy(key) >= 3.3;
    good.then(|| Secret { value: key, excerpt: hidden(site, value) })
}

/// A service account's token: a JWT that says so.
fn kubernetes<'a>(site: &Site<'a>) -> Option<Secret<'a>> {
    let value = run(site.after, 4096, |byte| is_base64_url(byte) || byte == b'.');
    let mut parts = value.split(|byte| *byte == b'.');
    let (head, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if is_inside(site) || signature.len() < 40 || parts.next().is_some() {
        return None;
    }
    let head: Vec<u8> = site.anchor.iter().chain(head).copied().collect();
    let is_jwt = memmem::find(&decode(&head)?, b"\"alg\"").is_some();
    let is_account = memmem::find(&decode(claims)?, b"kubernetes.io").is_some();
    (is_jwt && is_account).then(|| Secret { value, excerpt: hidden(site, value) })
}

/// `Authorization: Basic …`.
fn basic<'a>(site: &Site<'a>) -> Option<Secret<'a>> {
    let value = run(site.after, 400, |byte| is_base64(byte) || byte == b'=');
    let user = user_of(&decode(value)?)?;
    Some(Secret { value, excerpt: format!("Authorization: Basic … of the user {user}") })
}

/// The `auth` of a registry in Docker's configuration.
fn docker_auth<'a>(site: &Site<'a>) -> Option<Secret<'a>> {
    let gap = run(site.after, 8, |byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    let value = run(site.after[gap.len()..].strip_prefix(b"\"")?, 4000, |byte| is_base64(byte) || byte == b'=');
    let user = user_of(&decode(value)?)?;
    Some(Secret { value, excerpt: format!("\"auth\": … of the user {user}") })
}

/// `scheme://user:password@host`.
fn url<'a>(site: &Site<'a>) -> Option<Secret<'a>> {
    let is_part = |byte: u8| byte.is_ascii_graphic() && !b":/@\"'<>{}()[]\\`|^,;?#*$".contains(&byte);
    let is_of_scheme = |byte: u8| is_word(byte) || matches!(byte, b'+' | b'.' | b'-');
    let scheme = site.before.iter().rev().take(16).take_while(|byte| is_of_scheme(**byte)).count();
    let scheme = &site.before[site.before.len() - scheme..];
    let user = run(site.after, 64, is_part);
    let rest = site.after[user.len()..].strip_prefix(b":")?;
    let value = run(rest, 200, is_part);
    let host = run(rest[value.len()..].strip_prefix(b"@")?, 200, |byte| is_word(byte) || matches!(byte, b'.' | b'-'));
    let host = std::str::from_utf8(host).ok()?;
    let good = !scheme.is_empty() && is_password(value) && is_real(host) && !is_placeholder(user);
    let (scheme, user) = (String::from_utf8_lossy(scheme), String::from_utf8_lossy(user));
    good.then(|| Secret { value, excerpt: format!("{scheme}://{user}:…@{host}") })
}

/// Whether a host is not one of those that only documentation has. Source: RFC 2606 and RFC 6761.
fn is_real(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let is_reserved = matches!(last, "example" | "invalid" | "test" | "localhost" | "host" | "hostname" | "server");
    host.len() >= 2 && !is_reserved && !host.contains("example.") && !host.starts_with("127.")
}
