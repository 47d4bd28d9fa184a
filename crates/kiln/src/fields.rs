//! `name=value,name=value`: how buildx writes what has several parts.

use std::collections::BTreeMap;

/// Fields between commas; quotes around a field keep its commas, as in CSV.
pub(crate) fn split(text: &str) -> Vec<String> {
    let (mut fields, mut field) = (Vec::new(), String::new());
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

/// One text of names and values, which [`split`] takes apart again.
pub(crate) fn join(entry: &BTreeMap<String, String>) -> String {
    let field = |(name, value): (&String, &String)| {
        let field = format!("{name}={value}");
        let is_plain = !field.contains([',', '"']);
        if is_plain { field } else { format!("\"{}\"", field.replace('"', "\"\"")) }
    };
    entry.iter().map(field).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_is_split_into_the_same() {
        let entry = [("dest", "a,b"), ("name", "say \"x\", y"), ("type", "local")];
        let text = join(&entry.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!(text, "\"dest=a,b\",\"name=say \"\"x\"\", y\",type=local");
        let again = entry.map(|(name, value)| format!("{name}={value}"));
        assert_eq!(split(&text), again);
        assert_eq!(split("a,,b"), ["a", "", "b"]);
    }
}
