use super::*;

fn excluded(patterns: &[&str], path: &str) -> bool {
    Ignore::parse(&patterns.join("\n")).expect("valid").excluded(path)
}

#[test]
fn single_patterns_match_as_in_moby() {
    for (pattern, path, expected) in [
        ("**", "file", true),
        ("**/", "file", true),
        ("**", "dir/file", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir/dir2/file", true),
        ("dir/**", "dir", false),
        ("**/dir", "dir", true),
        ("**/dir", "dir/file", true),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/*", "dir/dir2/file/deep", true),
        ("**/dir2/**", "dir/dir2/dir3/file", true),
        ("**file", "file", true),
        ("**file", "dir/file", true),
        ("**file", "dir/dir/file", true),
        ("**file", "dir/profile", true),
        ("**/file", "dir/profile", false),
        ("**/file*", "dir/dir/file.txt", true),
        ("**/file*txt", "dir/dir/file.txt", true),
        ("**/file*.txt*", "dir/dir/file.txt", true),
        ("**/**/*.txt", "dir/dir/file.txt", true),
        ("**/**/*.txt2", "dir/dir/file.txt", false),
        ("**/*.txt", "file.txt", true),
        ("**/**/*.txt", "file.txt", true),
        ("a**/*.txt", "a/file.txt", true),
        ("a**/*.txt", "a/dir/dir/file.txt", true),
        ("a/*.txt", "a/dir/file.txt", false),
        ("a/*.txt", "a/file.txt", true),
        ("a/*.txt**", "a/file.txt", true),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "ab", false),
        ("a[b-d]e", "ae", false),
        ("a[b-d]e", "ace", true),
        ("a[b-d]e", "aae", false),
        ("a[^b-d]e", "aze", true),
        (".*", ".foo", true),
        (".*", "foo", false),
        ("abc.def", "abcdef", false),
        ("abc.def", "abcZdef", false),
        ("abc?def", "abcZdef", true),
        ("abc?def", "abcdef", false),
        ("a\\*b", "a*b", true),
        ("a\\*b", "axb", false),
        ("**/foo/bar", "foo/bar", true),
        ("**/foo/bar", "dir/dir2/foo/bar", true),
        ("abc/**", "abc/def/ghi", true),
        ("**/.foo", ".foo", true),
        ("**/.foo", "bar.foo", false),
        ("a(b)c/def", "a(b)c/def", true),
        ("a(b)c/def", "a(b)c/xyz", false),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
        ("dist/*.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", true),
        ("/foo", "foo", true),
        ("/foo", "a/foo", false),
        ("foo/", "foo", true),
        ("foo/", "foo/bar", true),
        ("./foo", "foo", true),
        ("a/../foo", "foo", true),
        ("/", "foo", false),
        (".", "foo", false),
        ("  foo  ", "foo", true),
        ("*", "a/b/c", true),
        ("*/*", "a", false),
        ("*/*", "a/b/c", true),
    ] {
        assert_eq!(excluded(&[pattern], path), expected, "{pattern} {path}");
    }
}

#[test]
fn the_last_match_wins() {
    for (patterns, path, expected) in [
        (&["!fileutils.go", "*.go"][..], "fileutils.go", true),
        (&["*.go", "!fileutils.go"], "fileutils.go", false),
        (&["docs", "!docs/README.md"], "docs/README.md", false),
        (&["docs/", "!docs/README.md"], "docs/README.md", false),
        (&["docs/*", "!docs/README.md"], "docs/README.md", false),
        (&["docs", "!docs/README.md"], "docs/other.md", true),
        (&["docs", "!docs/README.md", "docs"], "docs/README.md", true),
        (&["**", "!util/docker/web"], "util/docker/web/foo", false),
        (&["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", true),
        (&["**", "!dist/*.whl"], "dist/a+b.whl", false),
        (&["*", "!src", "src/*.log"], "src/a.log", true),
        (&["*", "!src", "src/*.log"], "src/sub/a.log", false),
        (&["*", "! src"], "src/a", false),
        (&["!!a", "*"], "!a", true),
        (&["*", "!!a"], "!a", false),
    ] {
        assert_eq!(excluded(patterns, path), expected, "{patterns:?} {path}");
    }
}

#[test]
fn comments_stand_in_the_first_column_only() {
    let ignore = Ignore::parse("\u{feff}# no\r\n #yes\r\n\r\n   \n\\#esc\n").expect("valid");
    assert!(ignore.excluded("#yes"));
    assert!(ignore.excluded("#esc"));
    assert!(!ignore.excluded("# no"));
    assert!(Ignore::parse("").expect("valid").is_empty());
    assert!(Ignore::parse_bytes(b"a\xff\nb").expect("valid").excluded("b"));
}

#[test]
fn malformed_patterns_name_their_line() {
    for (text, line) in [("a\n!\n", 2), ("[", 1), ("x\ny\na[", 3), ("[a-b-c]", 1), ("a\\", 1)] {
        assert_eq!(Ignore::parse(text).expect_err(text).line, line, "{text}");
    }
}

#[test]
fn the_context_itself_is_never_left_out() {
    for path in [".", "", "./", "/"] {
        assert!(!excluded(&["**", "*", "."], path), "{path}");
    }
}

#[test]
fn folders_are_entered_only_if_something_may_come_back() {
    for (patterns, folder, expected) in [
        (&["docs"][..], "docs", false),
        (&["docs"], "src", true),
        (&["docs", "!docs/README.md"], "docs", true),
        (&["docs", "!docs/a/README.md"], "docs/a", true),
        (&["docs", "!docs/a/README.md"], "docs/b", false),
        (&["docs", "!docs-old/README.md"], "docs", false),
        (&["*", "!**/*.md"], "docs/deep", true),
        (&["*", "!src/**"], "src", true),
        (&["*", "!src/**"], "docs", false),
        (&["*", "!s*/x"], "src", true),
        (&["*", "!s*/x"], "docs", false),
        (&["*", "!s*/x"], "src/y", false),
        (&["*", "!**/keep"], "docs/deep", true),
        (&["!docs/README.md", "docs"], "docs", false),
    ] {
        let ignore = Ignore::parse(&patterns.join("\n")).expect("valid");
        assert_eq!(ignore.enter_dir(folder), expected, "{patterns:?} {folder}");
    }
}

#[test]
fn a_walk_finds_what_single_questions_find() {
    let ignore = Ignore::parse("*\n!src\nsrc/**/*.log\n!src/keep/**\n**/tmp").expect("valid");
    for path in ["src/a", "src/x/y.log", "src/keep/z.log", "src/keep/tmp/z", "doc/a", "a"] {
        let mut folder = ignore.top();
        for (index, _) in path.match_indices('/') {
            folder = ignore.folder(&folder, &path[..index]);
        }
        assert_eq!(ignore.file(&folder, path), ignore.excluded(path), "{path}");
        assert!(ignore.excluded(path) || folder.enter(), "{path} would never be reached");
    }
}
