//! Files and what `docker buildx bake --print` (0.29) printed for them.

use kiln_bake::{BakeError, Definition, Override, Request};

fn no_environment(_: &str) -> Option<String> {
    None
}

fn print(name: &str, text: &str, names: &[&str], sets: &[&str]) -> Result<String, BakeError> {
    print_with(&[(name, text)], names, sets, &no_environment)
}

fn print_with(
    files: &[(&str, &str)],
    names: &[&str],
    sets: &[&str],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<String, BakeError> {
    let mut definition = Definition::default();
    for (name, text) in files {
        definition.add(name, text, environment)?;
    }
    let request = Request {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        overrides: sets.iter().map(|set| Override::parse(set)).collect::<Result<_, _>>()?,
        environment,
        local_platform: "linux/amd64".into(),
        now: "2026-01-02T03:04:05Z".into(),
    };
    Ok(serde_json::to_string_pretty(&definition.resolve(&request)?).expect("JSON") + "\n")
}

macro_rules! case {
    ($test:ident, $file:literal, $extension:literal, $names:expr, $sets:expr) => {
        case!($test, $file, $extension, $names, $sets, $file);
    };
    ($test:ident, $file:literal, $extension:literal, $names:expr, $sets:expr, $expected:literal) => {
        #[test]
        fn $test() {
            let text = include_str!(concat!("files/", $file, ".", $extension));
            let expected = include_str!(concat!("files/", $expected, ".expected.json"));
            let found = print(concat!("bake.", $extension), text, &$names, &$sets).expect("valid");
            let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
            assert_eq!(value(&found), value(expected));
        }
    };
}

case!(everything, "everything", "hcl", [], []);
case!(
    set,
    "set",
    "hcl",
    ["app"],
    [
        "*.args.B=q",
        "app.tags=zz",
        "app.platform=linux/386",
        "app.output=type=local,dest=out",
        "app.context=q",
        "mul*.no-cache=true",
        "app.labels.q=1",
        "app.target=tt",
        "app.dockerfile=dd",
        "app.contexts.z=./z"
    ]
);
case!(compose, "compose", "yaml", [], []);
case!(json, "json", "json", ["a", "b"], []);
case!(functions, "functions", "hcl", [], []);
case!(inherit, "inherit", "hcl", ["g"], []);
case!(set_tags, "set-tags", "hcl", ["p"], ["p.tags=a", "p.tags=b", "p.args.Q", "p.push=true"]);
case!(odd, "odd", "hcl", [], []);
case!(steps, "steps", "hcl", [], []);
case!(compose_steps, "compose-steps", "yaml", [], []);
case!(pushed, "outputs", "hcl", [], ["*.push=true"], "outputs-push");
case!(loaded, "outputs", "hcl", [], ["*.load=true"], "outputs-load");
case!(language, "language", "hcl", ["m*", "x"], []);
case!(templates, "templates", "hcl", [], []);
case!(own_functions, "own-functions", "hcl", [], []);

#[test]
fn the_environment_sets_variables_by_the_type_of_their_default() {
    let text = "variable V { default = true }\nvariable N { default = 1 }\nvariable S { default = \"s\" }\n\
                target default { args = { V = V ? \"yes\" : \"no\", N = N + 1, S = S } }\n";
    let environment = |name: &str| match name {
        "V" => Some("false".to_owned()),
        "N" => Some("41".to_owned()),
        "S" => Some("true".to_owned()),
        _ => None,
    };
    let found = print_with(&[("a.hcl", text)], &[], &[], &environment).expect("valid");
    for expected in ["\"V\": \"no\"", "\"N\": \"42\"", "\"S\": \"true\""] {
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn later_files_lie_over_earlier_ones() {
    let files = [
        ("compose.yaml", "services:\n  app:\n    build:\n      context: a\n      args: {A: 1}\n"),
        ("docker-bake.override.hcl", "target \"app\" {\n  args = { B = 2 }\n  tags = [\"t\"]\n}\n"),
    ];
    let found = print_with(&files, &[], &[], &no_environment).expect("valid");
    for expected in ["\"A\": \"1\"", "\"B\": \"2\"", "\"context\": \"a\"", "\"t\""] {
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn mistakes_have_a_place() {
    for (name, text, expected) in [
        ("a.hcl", "target \"a\" {\n  args = {\n", "a.hcl:2:3: invalid HCL"),
        ("a.hcl", "target default {\n  args = { A = B }\n}\n", "a.hcl:2:16: unknown variable `B`"),
        ("a.hcl", "target default {\n  args = { A = b(1) }\n}\n", "a.hcl:2:16: unknown function `b`"),
        ("a.hcl", "target default {\n  tags = \"x\"\n}\n", "a.hcl:2:10: `tags` must be a list of strings"),
        ("a.hcl", "target default {\n  args = { A = upper() }\n}\n", "a.hcl:2:16: upper: too few arguments"),
        ("a.hcl", "a = b\nb = a\ntarget default {\n  tags = [a]\n}\n", "needs itself"),
        ("a.hcl", "target default {\n inherits = [\"default\"]\n}\n", "target `default` needs itself"),
        ("a.hcl", "group default {\n targets = [\"default\"]\n}\n", "group `default` needs itself"),
        ("a.hcl", "target x {}\n", "no target or group `default`"),
        (
            "a.hcl",
            "target default {\n matrix = {\n  a = [1]\n }\n}\n",
            "a.hcl:3:7: target `default`: a matrix needs a `name`",
        ),
        (
            "a.hcl",
            "variable V {\n  default = 1\n  validation {\n    condition = V > 1\n    error_message = \"more\"\n  }\n}\n\
             target default {}\n",
            "a.hcl:4:17: variable `V`: more",
        ),
        (
            "a.hcl",
            "function f {\n params = [a]\n result = f(a)\n}\ntarget default {\n name = f(1)\n}\n",
            "calls itself too often",
        ),
        ("a.json", "{\"target\": {", "a.json:1:12: invalid JSON"),
        ("a.yaml", "services:\n  a: [", "invalid YAML"),
        ("a.yaml", "services:\n  a:\n    build: ${X:?give it}\n", "`X` is needed: give it"),
    ] {
        let error = print(name, text, &[], &[]).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}\n{error}\n{expected}");
    }
    for (set, expected) in [
        ("x.tags=a", "no target matches `x`"),
        ("default.foo=a", "unknown key `foo`"),
        ("default", "it names no key"),
        ("default.args=1", "needs a name"),
        ("default.no-cache=maybe", "must be true or false"),
    ] {
        let error = print("a.hcl", "target default {}\n", &[], &[set]).expect_err(set).to_string();
        assert!(error.contains(expected), "{set}: {error}");
    }
}

#[test]
fn settings_files_define_targets_too() {
    let text = "[build]\nrecipe = \"alpine\"\n[variable.V]\ndefault = \"1\"\n[target.base]\nargs = { A = \"${V}\" }\n\
                [target.app]\ninherits = [\"base\"]\ntags = [\"app:${V}\"]\n[group.default]\ntargets = [\"app\"]\n";
    let found = print("kiln.toml", text, &[], &[]).expect("valid");
    assert!(found.contains("\"app:1\"") && found.contains("\"A\": \"1\""), "{found}");
    let error = print("kiln.toml", "[target\n", &[], &[]).expect_err("invalid").to_string();
    assert!(error.starts_with("kiln.toml:1:"), "{error}");
}

#[test]
fn templates_have_directives() {
    let text = r#"target "default" {
  args = {
    A = "%{ for s in ["a", "b"] }${s},%{ endfor }end"
    B = "x %{~ if false ~} n %{~ else ~} y %{~ endif ~} z"
    C = <<EOT
%{ for k, v in {a="1", b="2"} ~}
${k}=${v}
%{ endfor ~}
EOT
    D = try({a="1"}.b, "d")
    E = can({a="1"}.b)
  }
}
"#;
    // As buildx prints it.
    let found = print("a.hcl", text, &[], &[]).expect("valid");
    for expected in [r#""A": "a,b,end""#, r#""B": "xyz""#, r#""C": "a=1\nb=2\n""#, r#""D": "d""#, r#""E": "false""#] {
        assert!(found.contains(expected), "{expected}: {found}");
    }
}

#[test]
fn secrets_of_compose_files_say_where_they_come_from() {
    let text = "services:\n  a:\n    build:\n      context: .\n      secrets: [s, {source: e}]\n\
                secrets:\n  s:\n    file: ./s.txt\n  e:\n    environment: E\n";
    let found = print("compose.yaml", text, &[], &[]).expect("valid");
    assert!(found.contains("\"src\": \"s.txt\"") && found.contains("\"env\": \"E\""), "{found}");
}
