//! What takes how much room inside of a result, as areas and as a table.

use maud::{Markup, html};

use super::{bytes, scroll, share};
use crate::treemap::{Rect, squarify};
use crate::{Contents, Kind, Modules, Report, text};

/// Areas of a picture; what is smaller shares the last one.
const MOST: usize = 60;
/// Files that are listed.
const MOST_LISTED: usize = 60;
/// Width of the picture that its words are fitted to, on a desk and on a phone, in pixels.
const WIDTHS: [f64; 2] = [1040.0, 330.0];
/// Height of the picture, in pixels.
const HEIGHT: f64 = 300.0;
/// Height of a picture of object files.
const LOW: f64 = 150.0;
/// Pixels that a character takes.
const CHARACTER: f64 = 6.7;

/// Characters of a name that say something.
const LEAST: usize = 7;

/// One area.
struct Area {
    label: String,
    bytes: u64,
    class: &'static str,
}

pub(super) fn section(report: &Report<'_>) -> Option<Markup> {
    if report.extras.contents.is_empty() {
        return None;
    }
    let modules =
        |contents: &Contents| report.extras.modules.iter().find(|modules| modules.platform == contents.platform);
    Some(html! {
        ul class="legend" {
            li { span class="key k1" {} "the program" }
            li { span class="key k2" {} "extension modules" }
            li { span class="key k3" {} "shared libraries" }
            li { span class="key k4" {} "data" }
        }
        @for (index, contents) in report.extras.contents.iter().enumerate() {
            details open[index == 0] {
                summary { (text::line(&contents.path, 160)) (sizes(contents)) }
                (picture(areas(contents, modules(contents)), HEIGHT, &format!("Contents of {}", contents.path)))
                (objects(modules(contents)))
                details {
                    summary { "As a table" }
                    (scroll(&format!("Contents of {}", contents.path), &table(contents)))
                }
            }
        }
    })
}

fn sizes(contents: &Contents) -> Markup {
    let unpacked: u64 = contents.files.iter().map(|file| file.size).sum();
    html! {
        span class="faint" {
            ": " (bytes(contents.stored)) ", unpacked " (bytes(unpacked)) " in " (text::counted(contents.files.len(), "file"))
        }
    }
}

/// The files, the largest first. The program itself falls into what Nuitka put into it and the rest, if its report is of
/// the very program.
fn areas(contents: &Contents, modules: Option<&Modules>) -> Vec<Area> {
    let mut areas = Vec::new();
    for file in &contents.files {
        let class = class(file.kind);
        let report = modules.map(|modules| &modules.report).filter(|report| {
            file.kind == Kind::Program && report.program == file.size && (1..file.size).contains(&report.constants)
        });
        if let Some(report) = report {
            let inside = |what: &str, bytes| Area { label: format!("{what} of {}", file.name), bytes, class };
            areas.push(inside("bytecode and constants", report.constants));
            areas.push(inside("machine code", file.size - report.constants));
        } else {
            areas.push(Area { label: file.name.clone(), bytes: file.size, class });
        }
    }
    areas
}

fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Program => "k1",
        Kind::Extension => "k2",
        Kind::Library => "k3",
        Kind::Data => "k4",
    }
}

/// The object files that were linked into the program. Under link-time optimisation they hold more than what is left.
fn objects(modules: Option<&Modules>) -> Markup {
    let Some(modules) = modules else { return html! {} };
    let with_object = modules.report.modules.iter().filter(|module| module.object > 0);
    let areas: Vec<Area> =
        with_object.map(|module| Area { label: module.name.clone(), bytes: module.object, class: "k1" }).collect();
    if areas.len() < 2 {
        return html! {};
    }
    let bytes = areas.iter().map(|area| area.bytes).sum();
    html! {
        p class="told" {
            "Object files of " (text::counted(areas.len(), "compiled module")) ", " (text::size(bytes)) " before linking"
        }
        (picture(areas, LOW, "Object files of the compiled modules"))
    }
}

#[expect(clippy::cast_precision_loss, reason = "for a picture")]
fn picture(mut areas: Vec<Area>, height: f64, label: &str) -> Markup {
    areas.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.label.cmp(&b.label)));
    if areas.len() > MOST {
        let rest = areas.split_off(MOST - 1);
        let bytes = rest.iter().map(|area| area.bytes).sum();
        areas.push(Area { label: format!("{} more", rest.len()), bytes, class: "k4" });
        areas.sort_by_key(|area| std::cmp::Reverse(area.bytes));
    }
    areas.retain(|area| area.bytes > 0);
    let all = Rect { x: 0.0, y: 0.0, width: WIDTHS[0], height };
    let sizes: Vec<f64> = areas.iter().map(|area| area.bytes as f64).collect();
    html! {
        svg class="treemap" width="100%" height=(height) role="img" aria-label=(text::line(label, 200)) {
            @for (area, rect) in areas.iter().zip(squarify(&sizes, all)) { (cell(area, rect)) }
        }
    }
}

fn cell(area: &Area, rect: Rect) -> Markup {
    let label = text::line(&area.label, 80);
    let size = text::size(area.bytes);
    // Characters that have room in it, where the picture is so wide.
    let room = |width: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a screen")]
        let room = ((rect.width / WIDTHS[0] * width - 10.0) / CHARACTER).max(0.0) as usize;
        if rect.height < 34.0 { 0 } else { room }
    };
    let [wide, narrow] = WIDTHS.map(room);
    // The beginning of a name is better than nothing, if it says something.
    let needed = label.chars().count().min(LEAST).max(size.chars().count());
    // One for a desk, one for a phone; one is enough where there is room for the whole in both.
    let texts = match (wide >= needed, narrow >= needed) {
        (_, true) if label.chars().count() <= narrow => vec![("", narrow)],
        (true, true) => vec![("wide", wide), ("narrow", narrow)],
        (true, false) => vec![("wide", wide)],
        _ => Vec::new(),
    };
    html! {
        svg x=(share(rect.x / WIDTHS[0])) y=(format!("{:.2}", rect.y)) width=(share(rect.width / WIDTHS[0]))
            height=(format!("{:.2}", rect.height)) {
            title { (label) ": " (size) }
            rect class=(area.class) width="100%" height="100%" {}
            @for (class, room) in texts {
                text class=(class) x="6" y="15" { (text::line(&label, room)) }
                text class={ "small " (class) } x="6" y="29" { (size) }
            }
        }
    }
}

fn table(contents: &Contents) -> Markup {
    let mut files: Vec<_> = contents.files.iter().collect();
    files.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name)));
    let kind = |kind| match kind {
        Kind::Program => "program",
        Kind::Extension => "extension module",
        Kind::Library => "shared library",
        Kind::Data => "data",
    };
    html! {
        table {
            thead { tr { th scope="col" { "file" } th scope="col" { "kind" } th scope="col" class="num" { "size" } } }
            tbody {
                @for file in files.iter().take(MOST_LISTED) {
                    tr {
                        th scope="row" { code { (text::line(&file.name, 160)) } }
                        td { (kind(file.kind)) }
                        td class="num" { (bytes(file.size)) }
                    }
                }
                @if files.len() > MOST_LISTED {
                    tr { th scope="row" { (files.len() - MOST_LISTED) " smaller ones" } td {} td class="num" {} }
                }
            }
        }
    }
}
