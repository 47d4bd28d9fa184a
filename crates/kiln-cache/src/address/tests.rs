//! What may be written, and what is said about what may not.

use std::path::Path;

use kiln_docker::registry::RegistryOptions;
use proptest::prelude::*;

use super::*;
use crate::error::CacheError;
use crate::reach::{Limits, Network};

fn parse(text: &str) -> Result<Address, CacheError> {
    Address::parse(text, Direction::From)
}

fn place(text: &str) -> Place {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error} ({:?})", error.hint())).place
}

#[test]
fn every_spelling_names_its_place() {
    for (text, expected) in [
        // buildx's.
        ("type=local,src=cache", "cache"),
        ("type=local,\"src=a,b\"", "a,b"),
        ("TYPE=local,Src=x", "x"),
        ("type=registry,ref=ghcr.io/team/app:cache", "registry://ghcr.io/team/app:cache"),
        ("type=registry,ref=user/app", "registry://docker.io/user/app"),
        ("type=registry,ref=localhost:5000/app", "registry://localhost:5000/app"),
        ("user/app:cache", "registry://docker.io/user/app:cache"),
        ("localhost:5000/app", "registry://localhost:5000/app"),
        ("alpine", "registry://docker.io/library/alpine"),
        ("type=s3,bucket=b,region=r", "s3://b"),
        ("type=s3,bucket=b,prefix=/a//b/,name=main", "s3://b/a/b/main"),
        ("type=s3,bucket=b,prefix=../..", "s3://b"),
        ("type=azblob,account_url=https://a.blob.core.windows.net,prefix=p/", "azblob://kiln-cache/p"),
        ("type=gcs,bucket=b,prefix=p", "gs://b/p"),
        ("type=webdav,url=https://host/dav/", "webdavs://host/dav"),
        ("type=http,url=http://host:8080/cache,prefix=a", "http://host:8080/cache/a"),
        ("type=gha,scope=main", "gha:main"),
        // URLs.
        ("s3://b/a/b?region=eu-1&endpoint=https://s3.example", "s3://b/a/b"),
        ("s3://b", "s3://b"),
        ("gs://b/p", "gs://b/p"),
        ("gcs://b/p%20q", "gs://b/p q"),
        ("azblob://c/p?account_url=http%3A%2F%2F127.0.0.1%3A10000%2Fx", "azblob://c/p"),
        ("webdav://host/a", "webdav://host/a"),
        ("webdavs://user:secret@host/a", "webdavs://host/a"),
        ("https://user:secret@host/a/?token=t", "https://host/a"),
        ("HTTP://host", "http://host"),
        ("registry://localhost:5000/app:tag?insecure=true", "registry://localhost:5000/app:tag"),
        ("oci://ghcr.io/a/b", "registry://ghcr.io/a/b"),
        ("file:///var/cache/k%20x", "/var/cache/k x"),
        ("file://localhost/x", "/x"),
        ("gha:", "gha:"),
        ("gha:main", "gha:main"),
        ("gha:?scope=main&timeout=10m", "gha:main"),
        // Folders.
        ("/var/cache", "/var/cache"),
        ("./cache=1,2", "./cache=1,2"),
        ("../cache", "../cache"),
        (".", "."),
        ("  /padded ", "/padded"),
    ] {
        assert_eq!(place(text).to_string(), expected, "{text}");
    }
}

#[test]
fn options_are_read() {
    let Place::S3(s3) = place(
        "type=s3,bucket=b,region=r,endpoint_url=http://127.0.0.1:9000/,access_key_id=AKIA,secret_access_key=\
         s/+=x,session_token=t,use_path_style=1",
    ) else {
        panic!("another place")
    };
    assert_eq!(s3.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
    assert_eq!(s3.secret_access_key.as_ref().map(Secret::reveal), Some("s/+=x"));
    assert_eq!((s3.path_style, s3.region.as_deref()), (Some(true), Some("r")));
    let Place::Gha(gha) = place("type=gha,scope=s,timeout=1h30m,url=https://a/,url_v2=https://b/,token=t") else {
        panic!("another place")
    };
    assert_eq!((gha.timeout, gha.url.as_deref()), (Some(Duration::from_mins(90)), Some("https://b")));
    let Place::Http(web) = place("https://u%40x:p%2Fw@host/a") else { panic!("another place") };
    assert_eq!((web.username.as_deref(), web.password.as_ref().map(Secret::reveal)), (Some("u@x"), Some("p/w")));
    let Place::Registry { insecure, tag, .. } = place("type=registry,ref=a/b:t,registry.insecure=true") else {
        panic!("another place")
    };
    assert_eq!((insecure, tag.as_deref()), (true, Some("t")));
    let address = Address::parse("type=local,dest=x,mode=max,ignore-error=false,compression=zstd", Direction::To);
    let address = address.expect("an address");
    assert_eq!((address.mode, address.ignore_error), (Some(Mode::Max), false));
    assert_eq!(address.unused, ["compression"]);
    let plain = parse("s3://b?mode=min&touch_refresh=1&image-manifest=true").expect("an address");
    assert_eq!((plain.mode, plain.ignore_error), (Some(Mode::Min), true));
    assert_eq!(plain.unused, ["touch_refresh", "image-manifest"]);
}

#[test]
fn what_is_wrong_is_said_with_a_way_out() {
    for (text, problem, hint) in [
        ("", "it is empty", "type=TYPE"),
        ("type=regsitry,ref=a", "the type `regsitry` is unknown", "did you mean `registry`? types are local, registry"),
        ("type=inline", "the type `inline` is unknown", "types are local"),
        ("ref=a/b", "it has no type", "type=TYPE"),
        ("type=local", "type `local` needs src=", "type=local,src=FOLDER"),
        ("type=local,dest=x", "`dest` is of the other way", "--cache-to"),
        ("type=s3", "type `s3` needs bucket=", "options of `s3` are bucket, region"),
        ("type=s3,bukcet=b", "type `s3` has no option `bukcet`", "did you mean `bucket`?"),
        ("type=s3,bucket=b,ignore-eror=1", "no option `ignore-eror`", "did you mean `ignore-error`?"),
        ("type=s3,bucket=b,mode=all", "`all` is no mode", "mode=min"),
        ("type=s3,bucket=b,use_path_style=maybe", "`maybe` is not what use_path_style= can be", "true or false"),
        ("type=s3,bucket=b,ignore-error=2", "`2` is not what ignore-error= can be", "true or false"),
        ("type=s3,bucket=b,access_key_id=a", "belong together", "neither"),
        ("type=s3,bucket=a/b", "this is no name of a bucket", ""),
        ("type=s3,bucket=b,endpoint_url=localhost:9000", "begins neither with http://", "http://HOST/PATH"),
        ("type=gha,timeout=soon", "`soon` is not what timeout= can be", "10m"),
        ("type=registry,ref=A", "is not a name that an image can be pushed to", "in lower case"),
        ("type=registry", "type `registry` needs ref=", ""),
        ("Upper/Case", "is not a name", "in lower case"),
        ("type=s3,bucket", "the field `bucket` has no value", ""),
        ("type=s3,bucket=a\"b", "must stand in quotes", ""),
        ("htps://x", "the scheme `htps` is unknown", "did you mean `https://`?"),
        ("ftp://x/y", "the scheme `ftp` is unknown", "https://"),
        ("file://host/x", "names `host`", "three slashes"),
        ("http://", "has no host", ""),
        ("http:///x", "has no host", ""),
        ("webdav://host/a b", "characters that it must not have", ""),
        ("s3://user:secret@b/x", "this is no name of a bucket", ""),
        ("s3://b?bucet=x", "no option `bucet`", "did you mean `bucket`?"),
    ] {
        let error = parse(text).err().unwrap_or_else(|| panic!("`{text}` is an address"));
        let CacheError::BadAddress { problem: found, hint: way, .. } = &error else { panic!("{error:?}") };
        assert!(found.contains(problem), "{text}: {found}");
        assert!(way.contains(hint), "{text}: {way}");
    }
    let to = Address::parse("type=local,src=x", Direction::To).expect_err("the other way");
    assert!(to.to_string().contains("`src` is of the other way"), "{to}");
}

#[test]
fn secrets_are_shown_nowhere() {
    for text in [
        "type=s3,bucket=b,access_key_id=hunter2,secret_access_key=hunter2,session_token=hunter2",
        "type=s3,bucket=b,secret_access_key=hunter2",
        "type=s3,bucket=b,access_key_id=x,secret_access_key=a,hunter2",
        "type=s3,bukcet=b,secret_access_key=hunter2",
        "type=s3,\"secret_access_key=a\"hunter2,bucket=b",
        "type=azblob,secret_access_key=hunter2,sas_token=hunter2,nope=1",
        "type=webdav,url=https://me:hunter2@host/x",
        "type=webdav,url=https://me:hunter2@host/x,nope=1",
        "type=webdav,url=https://host/x?token=hunter2",
        "type=webdav,url=https://me:hunter2@",
        "https://me:hunter2@host/x?token=hunter2",
        "https://me:hunter2@host/x?token=hunter2&nope=1",
        "sss://me:hunter2@host/x?token=hunter2",
        "webdavs://me:hunter2@/x",
        "s3://me:hunter2@bucket/x",
        "gha:?token=hunter2",
        "gha:?token=hunter2&nope=1",
    ] {
        let shown = match parse(text) {
            Ok(address) => format!("{address} {address:?}"),
            Err(error) => format!("{error} {error:?} {:?}", error.hint()),
        };
        assert!(!shown.contains("hunter2"), "{text}: {shown}");
    }
}

type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

fn around(variables: Variables<'_>) -> Surroundings<'_> {
    Surroundings {
        variables,
        folder: Path::new("/work"),
        registry: RegistryOptions::default(),
        network: Network::default(),
        limits: Limits::default(),
    }
}

#[test]
fn the_environment_adds_what_is_missing() {
    let nothing = |_: &str| None;
    let aws = |name: &str| (name == "AWS_REGION").then(|| "eu-central-1".to_owned());
    let azure = |name: &str| (name == "AZURE_STORAGE_ACCOUNT").then(|| "acc".to_owned());
    let connection = |name: &str| {
        let text =
            "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=aHVudGVyMg==;EndpointSuffix=core.windows.net";
        (name == "AZURE_STORAGE_CONNECTION_STRING").then(|| text.to_owned())
    };
    let no = |_: &str| None;
    let all: [(&str, Variables<'_>, Option<&str>); 12] = [
        ("cache/x:y", &no, Some("docker.io/cache/x:y")),
        ("./cache", &no, Some("/work/./cache")),
        ("/cache", &no, Some("/cache")),
        ("s3://b/p", &aws, Some("s3://b/p")),
        ("s3://b/p?endpoint=http://127.0.0.1:1", &no, Some("s3://b/p")),
        ("azblob://c", &azure, Some("azblob://c")),
        ("azblob://c", &connection, Some("azblob://c")),
        ("azblob://c", &nothing, None),
        ("gs://b", &no, Some("gs://b")),
        ("webdav://host", &no, Some("webdav://host")),
        ("https://host/x", &no, Some("https://host/x")),
        ("gha:", &no, None),
    ];
    for (text, variables, expected) in all {
        let opened = parse(text).expect("an address").open(&around(variables));
        let place = opened.as_ref().ok().map(|store| store.place());
        assert_eq!(place.as_deref(), expected, "{text}: {:?}", opened.err());
    }
}

proptest! {
    #[test]
    fn nothing_panics(text in ".{0,60}") {
        let _ = Address::parse(&text, Direction::From).map(|address| address.to_string());
    }

    #[test]
    fn nothing_near_an_address_panics(
        start in "(type=(s3|local|registry|azblob|gcs|webdav|http|gha),|s3://|https://|gha:|file://|)",
        fields in proptest::collection::vec("[a-z_-]{1,12}=[ -~]{0,20}", 0..5),
        end in "[\"%@:/?&,=a-zé]{0,12}",
    ) {
        let text = format!("{start}{}{end}", fields.join(","));
        for direction in [Direction::From, Direction::To] {
            if let Ok(address) = Address::parse(&text, direction) {
                let _ = address.to_string();
            }
        }
    }

    #[test]
    fn a_secret_stays_one(secret in "[a-z]{1,3}[A-Za-z0-9/+=,\"@?&:]{0,10}XYZZY", tail in "(,nope=1|)") {
        for text in [
            format!("type=s3,bucket=b,access_key_id=i,secret_access_key={secret}{tail}"),
            format!("type=webdav,url=http://h,password={secret}{tail}"),
            format!("https://host/x?token={}{tail}", secret.replace(['&', '?', '%', '+'], "")),
        ] {
            let shown = match Address::parse(&text, Direction::From) {
                Ok(address) => format!("{address} {address:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            prop_assert!(!shown.contains("XYZZY"), "{text}: {shown}");
        }
    }
}
