//! The functions that every bake file can call: the usual part of those of go-cty and bake.

use base64::Engine as _;
use serde_json::{Map, Value};
use sha2::Digest as _;

use crate::error::{BakeError, BakeErrorKind};
use crate::eval::{Result, number, same, text, truth};

/// Calls a function by name.
pub(crate) fn call(name: &str, arguments: &[Value]) -> Result<Value> {
    let fails = |message: &str| {
        BakeError::new(BakeErrorKind::Function { function: name.to_owned(), message: message.to_owned() })
    };
    let at = |index: usize| arguments.get(index).ok_or_else(|| fails("too few arguments"));
    let string = |index: usize| text(at(index)?, name);
    let list = |index: usize| match at(index)? {
        Value::Array(items) => Ok(items.clone()),
        _ => Err(fails("a list is needed")),
    };
    let object = |index: usize| at(index)?.as_object().cloned().ok_or_else(|| fails("an object is needed"));
    let float = |index: usize| float(at(index)?, name);
    let whole = |index: usize| -> Result<i64> { at(index)?.as_i64().ok_or_else(|| fails("a whole number is needed")) };
    let floats = || arguments.iter().map(|value| self::float(value, name)).collect::<Result<Vec<f64>>>();
    let strings = |items: Vec<Value>| items.iter().map(|item| text(item, name)).collect::<Result<Vec<String>>>();
    let regex = |index: usize| regex::Regex::new(&string(index)?).map_err(|error| fails(&error.to_string()));
    Ok(match name {
        "upper" => string(0)?.to_uppercase().into(),
        "lower" => string(0)?.to_lowercase().into(),
        "title" => title(&string(0)?).into(),
        "trim" => {
            let cut: Vec<char> = string(1)?.chars().collect();
            string(0)?.trim_matches(|c| cut.contains(&c)).into()
        }
        "trimspace" => string(0)?.trim().into(),
        "trimprefix" => {
            let whole = string(0)?;
            whole.strip_prefix(&string(1)?).unwrap_or(&whole).into()
        }
        "trimsuffix" => {
            let whole = string(0)?;
            whole.strip_suffix(&string(1)?).unwrap_or(&whole).into()
        }
        "chomp" => string(0)?.trim_end_matches(['\r', '\n']).into(),
        "replace" => string(0)?.replace(&string(1)?, &string(2)?).into(),
        "regex_replace" => regex(1)?.replace_all(&string(0)?, string(2)?.as_str()).into_owned().into(),
        "regex" => {
            let (pattern, subject) = (regex(0)?, string(1)?);
            let found = pattern.captures(&subject).ok_or_else(|| fails("the pattern does not match"))?;
            let group = |index: usize| found.get(index).map_or(Value::Null, |found| found.as_str().into());
            if pattern.captures_len() == 1 { group(0) } else { (1..pattern.captures_len()).map(group).collect() }
        }
        "split" => {
            let (separator, subject) = (string(0)?, string(1)?);
            if separator.is_empty() {
                subject.chars().map(String::from).collect()
            } else {
                subject.split(separator.as_str()).map(Value::from).collect()
            }
        }
        "join" => {
            let items: Result<Vec<Vec<String>>> = (1..arguments.len()).map(|i| list(i).and_then(strings)).collect();
            items?.concat().join(&string(0)?).into()
        }
        "format" => {
            format_text(&string(0)?, arguments.get(1..).unwrap_or_default()).map_err(|text| fails(&text))?.into()
        }
        "substr" => {
            let subject: Vec<char> = string(0)?.chars().collect();
            let (start, length) = (whole(1)?, whole(2)?);
            let size = i64::try_from(subject.len()).unwrap_or(i64::MAX);
            let start = if start < 0 { size + start } else { start }.clamp(0, size);
            let end = if length < 0 { size } else { start.saturating_add(length).min(size) };
            let index = |at: i64| usize::try_from(at).unwrap_or(0);
            subject[index(start)..index(end)].iter().collect::<String>().into()
        }
        "strlen" => string(0)?.chars().count().into(),
        "reverse" => string(0)?.chars().rev().collect::<String>().into(),
        "indent" => {
            string(1)?.replace('\n', &format!("\n{}", " ".repeat(usize::try_from(whole(0)?).unwrap_or(0)))).into()
        }
        "length" => match at(0)? {
            Value::Array(items) => items.len().into(),
            Value::Object(fields) => fields.len().into(),
            _ => return Err(fails("a list or an object is needed")),
        },
        "concat" => (0..arguments.len()).map(list).collect::<Result<Vec<_>>>()?.concat().into(),
        "contains" => list(0)?.iter().any(|item| arguments.get(1).is_some_and(|wanted| same(item, wanted))).into(),
        "distinct" => {
            let mut items: Vec<Value> = Vec::new();
            for item in list(0)? {
                if !items.contains(&item) {
                    items.push(item);
                }
            }
            items.into()
        }
        "flatten" => flatten(list(0)?).into(),
        "compact" => list(0)?.into_iter().filter(|item| item.as_str() != Some("") && !item.is_null()).collect(),
        "sort" => {
            let mut items = strings(list(0)?)?;
            items.sort();
            items.into()
        }
        "reverselist" => list(0)?.into_iter().rev().collect(),
        "slice" => {
            let items = list(0)?;
            let range = usize::try_from(whole(1)?).ok().zip(usize::try_from(whole(2)?).ok());
            let part = range.and_then(|(from, to)| items.get(from..to)).ok_or_else(|| fails("not in the list"))?;
            part.to_vec().into()
        }
        "element" => {
            let items = list(0)?;
            let index = usize::try_from(whole(1)?).map_err(|_| fails("a whole number is needed"))?;
            items.get(index % items.len().max(1)).cloned().ok_or_else(|| fails("the list is empty"))?
        }
        "index" => match at(0)? {
            Value::Array(items) => {
                let index = usize::try_from(whole(1)?).ok();
                index.and_then(|index| items.get(index)).cloned().ok_or_else(|| fails("not in the list"))?
            }
            Value::Object(fields) => fields.get(&string(1)?).cloned().ok_or_else(|| fails("no such key"))?,
            _ => return Err(fails("a list or an object is needed")),
        },
        "range" => {
            let (from, to, step) = match floats()?.as_slice() {
                [to] => (0.0, *to, if *to < 0.0 { -1.0 } else { 1.0 }),
                [from, to] => (*from, *to, if to < from { -1.0 } else { 1.0 }),
                [from, to, step, ..] => (*from, *to, *step),
                [] => return Err(fails("too few arguments")),
            };
            if step == 0.0 || (to - from) / step > 10_000.0 {
                return Err(fails("that does not end soon enough"));
            }
            let mut items = Vec::new();
            let mut value = from;
            while if step > 0.0 { value < to } else { value > to } {
                items.push(number(value));
                value += step;
            }
            items.into()
        }
        "keys" => object(0)?.keys().cloned().map(Value::from).collect(),
        "values" => object(0)?.into_iter().map(|(_, value)| value).collect(),
        "merge" => {
            let objects = (0..arguments.len()).map(object).collect::<Result<Vec<_>>>()?;
            objects.into_iter().flatten().collect::<Map<_, _>>().into()
        }
        "zipmap" => strings(list(0)?)?.into_iter().zip(list(1)?).collect::<Map<_, _>>().into(),
        "lookup" => object(0)?.get(&string(1)?).or(arguments.get(2)).cloned().ok_or_else(|| fails("no such key"))?,
        "coalesce" => {
            let found = arguments.iter().find(|value| !value.is_null());
            found.cloned().ok_or_else(|| fails("every argument is null"))?
        }
        "coalescelist" => {
            let found = arguments.iter().find(|value| value.as_array().is_some_and(|items| !items.is_empty()));
            found.cloned().ok_or_else(|| fails("every list is empty"))?
        }
        "equal" => same(at(0)?, at(1)?).into(),
        "notequal" => (!same(at(0)?, at(1)?)).into(),
        "and" => (truth(at(0)?, name)? && truth(at(1)?, name)?).into(),
        "or" => (truth(at(0)?, name)? || truth(at(1)?, name)?).into(),
        "not" => (!truth(at(0)?, name)?).into(),
        "lessthan" => (float(0)? < float(1)?).into(),
        "lessthanorequalto" => (float(0)? <= float(1)?).into(),
        "greaterthan" => (float(0)? > float(1)?).into(),
        "greaterthanorequalto" => (float(0)? >= float(1)?).into(),
        "add" => number(float(0)? + float(1)?),
        "subtract" => number(float(0)? - float(1)?),
        "multiply" => number(float(0)? * float(1)?),
        "divide" | "modulo" if float(1)? == 0.0 => return Err(fails("division by zero")),
        "divide" => number(float(0)? / float(1)?),
        "modulo" => number(float(0)? % float(1)?),
        "negate" => number(-float(0)?),
        "absolute" => number(float(0)?.abs()),
        "ceil" => number(float(0)?.ceil()),
        "floor" => number(float(0)?.floor()),
        "int" => number(float(0)?.trunc()),
        "min" | "max" => {
            let choose = if name == "min" { f64::min } else { f64::max };
            number(floats()?.into_iter().reduce(choose).ok_or_else(|| fails("too few arguments"))?)
        }
        "parseint" => {
            let radix = u32::try_from(whole(1)?).ok().filter(|radix| (2..=36).contains(radix));
            let radix = radix.ok_or_else(|| fails("the base must be between 2 and 36"))?;
            i64::from_str_radix(&string(0)?, radix).map_err(|_| fails("that is no number of this base"))?.into()
        }
        "jsonencode" => serde_json::to_string(at(0)?).unwrap_or_default().into(),
        "jsondecode" => serde_json::from_str(&string(0)?).map_err(|error| fails(&error.to_string()))?,
        "base64encode" => base64::engine::general_purpose::STANDARD.encode(string(0)?).into(),
        "base64decode" => {
            let bytes =
                base64::engine::general_purpose::STANDARD.decode(string(0)?).map_err(|e| fails(&e.to_string()))?;
            String::from_utf8(bytes).map_err(|_| fails("the result is no text"))?.into()
        }
        "sha256" => hex(&sha2::Sha256::digest(string(0)?)).into(),
        "sha512" => hex(&sha2::Sha512::digest(string(0)?)).into(),
        "basename" => string(0)?.trim_end_matches('/').rsplit('/').next().unwrap_or_default().into(),
        "dirname" => string(0)?.rsplit_once('/').map_or(".".to_owned(), |(folder, _)| folder.to_owned()).into(),
        "sanitize" => string(0)?.replace(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'), "_").into(),
        "tostring" => string(0)?.into(),
        "tonumber" => number(float(0)?),
        "tobool" => truth(at(0)?, name)?.into(),
        _ => return Err(BakeError::new(BakeErrorKind::Unknown { what: "function", name: name.to_owned() })),
    })
}

/// A number, also one that is written as text.
pub(crate) fn float(value: &Value, name: &str) -> Result<f64> {
    let parsed = value.as_f64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    parsed.ok_or_else(|| BakeError::new(BakeErrorKind::Type { name: name.to_owned(), expected: "a number" }))
}

fn flatten(items: Vec<Value>) -> Vec<Value> {
    items
        .into_iter()
        .flat_map(|item| match item {
            Value::Array(inner) => flatten(inner),
            other => vec![other],
        })
        .collect()
}

fn title(text: &str) -> String {
    let mut start = true;
    let upper = |c: char| {
        let first = std::mem::replace(&mut start, !c.is_alphanumeric() && c != '\'' && c != '_');
        if first { c.to_uppercase().collect::<String>() } else { c.to_string() }
    };
    text.chars().map(upper).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// `%s`, `%d`, `%v`, `%q`, `%f` and `%%`, with width, `0`, `-` and a precision.
fn format_text(pattern: &str, arguments: &[Value]) -> std::result::Result<String, String> {
    let (mut out, mut next) = (String::new(), arguments.iter());
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = String::new();
        while let Some(c) = chars.next_if(|c| c.is_ascii_digit() || matches!(c, '-' | '.')) {
            spec.push(c);
        }
        let verb = chars.next().ok_or("the format ends in `%`")?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = next.next().ok_or("too few arguments")?;
        let (width, precision) =
            spec.split_once('.').map_or((spec.as_str(), None), |(w, p)| (w, p.parse::<usize>().ok()));
        let as_text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let shown = match verb {
            's' | 'v' => as_text,
            'q' => serde_json::to_string(&as_text).unwrap_or_default(),
            'd' => value.as_i64().ok_or("%d needs a whole number")?.to_string(),
            'f' => format!("{:.*}", precision.unwrap_or(6), value.as_f64().ok_or("%f needs a number")?),
            other => return Err(format!("`%{other}` is not known")),
        };
        let (left, zero) = (width.starts_with('-'), width.starts_with('0'));
        let width: usize = width.trim_start_matches('-').parse().unwrap_or(0).min(1000);
        let fill = width.saturating_sub(shown.chars().count());
        match (left, zero) {
            (true, _) => out.extend([shown, " ".repeat(fill)]),
            (_, true) => out.extend(["0".repeat(fill), shown]),
            _ => out.extend([" ".repeat(fill), shown]),
        }
    }
    Ok(out)
}
