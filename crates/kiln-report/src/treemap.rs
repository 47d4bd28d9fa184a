//! Areas for sizes: rectangles that fill a given one and are as square as can be. Pure.
//!
//! Source: Bruls, Huizing, van Wijk, "Squarified Treemaps" (2000).

/// A rectangle; units are the caller's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rect {
    /// Its left side.
    pub(crate) x: f64,
    /// Its upper side.
    pub(crate) y: f64,
    /// From left to right.
    pub(crate) width: f64,
    /// From top to bottom.
    pub(crate) height: f64,
}

/// Rectangles inside `all` with areas in the proportion of `sizes`, in their order. Sizes must come largest first; those
/// that are not above zero get nothing.
pub(crate) fn squarify(sizes: &[f64], all: Rect) -> Vec<Rect> {
    let total: f64 = sizes.iter().copied().filter(|size| *size > 0.0).sum();
    let nothing = Rect { width: 0.0, height: 0.0, ..all };
    if total <= 0.0 || all.width <= 0.0 || all.height <= 0.0 {
        return vec![nothing; sizes.len()];
    }
    let scale = all.width * all.height / total;
    let areas: Vec<f64> = sizes.iter().map(|size| size.max(0.0) * scale).collect();
    let (mut rects, mut rest) = (Vec::with_capacity(sizes.len()), all);
    while rects.len() < areas.len() {
        let open = &areas[rects.len()..];
        let side = rest.width.min(rest.height);
        let mut count = 1;
        while count < open.len() && worst(&open[..=count], side) <= worst(&open[..count], side) {
            count += 1;
        }
        rest = lay(&open[..count], rest, &mut rects);
    }
    rects
}

/// The worst ratio of sides in a row of areas along `side`.
fn worst(areas: &[f64], side: f64) -> f64 {
    let depth = areas.iter().sum::<f64>() / side;
    if depth <= 0.0 {
        return 1.0;
    }
    areas.iter().map(|area| (area / depth / depth).max(depth * depth / area.max(f64::MIN_POSITIVE))).fold(0.0, f64::max)
}

/// Puts a row along the shorter side, and returns what is left.
fn lay(areas: &[f64], into: Rect, rects: &mut Vec<Rect>) -> Rect {
    let sum: f64 = areas.iter().sum();
    let upright = into.width >= into.height;
    let side = if upright { into.height } else { into.width };
    let depth = if side > 0.0 { sum / side } else { 0.0 };
    let mut along = 0.0;
    for area in areas {
        let length = if depth > 0.0 { area / depth } else { 0.0 };
        rects.push(if upright {
            Rect { x: into.x, y: into.y + along, width: depth, height: length }
        } else {
            Rect { x: into.x + along, y: into.y, width: length, height: depth }
        });
        along += length;
    }
    if upright {
        Rect { x: into.x + depth, width: (into.width - depth).max(0.0), ..into }
    } else {
        Rect { y: into.y + depth, height: (into.height - depth).max(0.0), ..into }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Rect = Rect { x: 0.0, y: 0.0, width: 6.0, height: 4.0 };

    #[test]
    fn the_example_of_the_paper() {
        let rects = squarify(&[6.0, 6.0, 4.0, 3.0, 2.0, 2.0, 1.0], ALL);
        assert_eq!(rects[0], Rect { x: 0.0, y: 0.0, width: 3.0, height: 2.0 });
        assert_eq!(rects[1], Rect { x: 0.0, y: 2.0, width: 3.0, height: 2.0 });
        // 4 and 3 lie side by side above the rest.
        assert!((rects[2].width - 12.0 / 7.0).abs() < 1e-9 && (rects[2].height - 7.0 / 3.0).abs() < 1e-9, "{rects:?}");
        assert!((rects[3].x - rects[2].x - rects[2].width).abs() < 1e-9, "{rects:?}");
    }

    #[test]
    fn what_has_no_size_has_no_place() {
        assert_eq!(squarify(&[], ALL), []);
        assert!(squarify(&[0.0, 0.0], ALL).iter().all(|rect| rect.width == 0.0));
        let rects = squarify(&[5.0, 0.0], ALL);
        assert_eq!(rects[0], ALL);
        assert!(rects[1].width * rects[1].height == 0.0);
    }

    proptest! {
        #[test]
        fn areas_are_right_inside_and_apart(mut sizes in prop::collection::vec(1.0f64..1e6, 1..60)) {
            sizes.sort_by(|a, b| b.total_cmp(a));
            let rects = squarify(&sizes, ALL);
            let total: f64 = sizes.iter().sum();
            for (rect, size) in rects.iter().zip(&sizes) {
                prop_assert!((rect.width * rect.height - size / total * 24.0).abs() < 1e-6);
                prop_assert!(rect.x >= -1e-9 && rect.x + rect.width <= 6.0 + 1e-6);
                prop_assert!(rect.y >= -1e-9 && rect.y + rect.height <= 4.0 + 1e-6);
            }
            for (index, a) in rects.iter().enumerate() {
                for b in &rects[index + 1..] {
                    let across = (a.x + a.width).min(b.x + b.width) - a.x.max(b.x);
                    let down = (a.y + a.height).min(b.y + b.height) - a.y.max(b.y);
                    prop_assert!(across < 1e-6 || down < 1e-6, "{:?} {:?}", a, b);
                }
            }
        }
    }
}
