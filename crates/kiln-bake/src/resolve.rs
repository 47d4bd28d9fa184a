//! From what the files say to what is built.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::error::{BakeError, BakeErrorKind};
use crate::eval::{Evaluator, Expr, File, Function, Locals, Located, Result, Variable, text};
use crate::set::{Override, apply, wildcard};
use crate::target::{Target, entry, list};
use crate::{compose, hcl, json, toml};

/// The files, read but not evaluated.
#[derive(Clone, Debug, Default)]
pub struct Definition {
    pub(crate) variables: BTreeMap<String, Variable>,
    pub(crate) functions: BTreeMap<String, Function>,
    pub(crate) groups: Vec<RawGroup>,
    pub(crate) targets: Vec<RawTarget>,
}

/// A `group` block.
#[derive(Clone, Debug)]
pub(crate) struct RawGroup {
    pub(crate) name: String,
    pub(crate) targets: Option<Located>,
}

/// A `target` block.
#[derive(Clone, Debug)]
pub(crate) struct RawTarget {
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, Located)>,
    pub(crate) matrix: Vec<(String, Located)>,
}

/// What is asked for.
pub struct Request<'a> {
    /// Names of targets and groups; none for `default`.
    pub names: Vec<String>,
    /// `--set`, in order.
    pub overrides: Vec<Override>,
    /// Variables of the environment.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// The platform of the machine: `BAKE_LOCAL_PLATFORM`.
    pub local_platform: String,
    /// What `timestamp()` gives: the time in the form of RFC 3339.
    pub now: String,
}

/// What is built: what `--print` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bake {
    /// The groups that lead to it; `default` is what was asked for.
    pub group: BTreeMap<String, Group>,
    /// The targets, all `inherits` and `--set` applied, and those that others use as contexts.
    pub target: BTreeMap<String, Target>,
}

/// The members of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Targets and groups.
    pub targets: Vec<String>,
}

impl Definition {
    /// Reads a file; its name says in which language: `.hcl`, `.json`, `.toml`, or YAML for a
    /// compose file.
    ///
    /// # Errors
    /// If it is not in that language.
    pub fn add(&mut self, name: &str, text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<()> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let file = Arc::new(File { name: name.to_owned(), text: text.to_owned() });
        match name.rsplit('.').next() {
            Some("json") => json::read(self, &file),
            Some("toml") => toml::read(self, &file),
            Some("yml" | "yaml") => compose::read(self, &file, environment),
            _ => hcl::read(self, &file),
        }
    }

    /// Evaluates what was asked for.
    ///
    /// # Errors
    /// If an expression cannot be evaluated, a name is unknown, or something needs itself.
    pub fn resolve(&self, request: &Request<'_>) -> Result<Bake> {
        let evaluator = self.evaluator(request);
        // Variables that nobody uses are validated, too.
        for (name, _) in self.variables.iter().filter(|(_, variable)| !variable.validations.is_empty()) {
            evaluator.variable(name, &vec![])?;
        }
        let known = self.evaluated(&evaluator)?;
        let names = if request.names.is_empty() { vec!["default".to_owned()] } else { request.names.clone() };
        let mut bake = Bake { group: BTreeMap::new(), target: BTreeMap::new() };
        let mut wanted = Vec::new();
        let mut asked = Vec::new();
        for name in &names {
            if name.contains('*') {
                let names = known.targets.keys().chain(known.groups.keys());
                let mut matching: Vec<String> = names.filter(|t| wildcard(name, t)).cloned().collect();
                matching.sort();
                if matching.is_empty() {
                    return Err(known.missing(name));
                }
                asked.extend(matching);
            } else if name == "default" && names.len() > 1 && known.groups.contains_key(name) {
                // Beside others, the group stands for its members.
                asked.extend(known.groups[name].iter().cloned());
            } else {
                asked.push(name.clone());
            }
        }
        let mut seen = BTreeSet::new();
        asked.retain(|name| seen.insert(name.clone()));
        for name in &asked {
            known.collect(name, &mut bake.group, &mut wanted, &mut vec![])?;
        }
        let is_default = asked.len() == 1 && asked[0] == "default" && known.groups.contains_key("default");
        if !is_default {
            bake.group.insert("default".into(), Group { targets: asked });
        }
        for set in &request.overrides {
            if !known.targets.keys().any(|name| set.matches(name)) {
                return Err(set.unused());
            }
        }
        // Targets that others use as a context are built, too, but for nothing else.
        let mut linked: Vec<(String, bool)> = wanted.into_iter().map(|name| (name, false)).collect();
        while let Some((name, only_linked)) = linked.pop() {
            if bake.target.contains_key(&name) {
                continue;
            }
            let mut target = known.target(&name, &mut vec![])?;
            let sets: Vec<&Override> = request.overrides.iter().filter(|set| set.matches(&name)).collect();
            apply(&mut target, &sets, request.environment)?;
            target.context.get_or_insert_with(|| ".".into());
            target.dockerfile.get_or_insert_with(|| "Dockerfile".into());
            let host = "network.host".to_owned();
            if target.network.as_deref() == Some("host") && !target.entitlements.contains(&host) {
                target.entitlements.push(host);
            }
            if only_linked {
                target.output = vec![entry("type=cacheonly", "dest")];
            }
            let needs = target.contexts.values().filter_map(|context| context.strip_prefix("target:"));
            // Before those that wait: what was asked for keeps its own outputs.
            linked.splice(0..0, needs.map(|name| (name.to_owned(), true)));
            bake.target.insert(name, target);
        }
        bake.share_entitlements();
        Ok(bake)
    }

    /// What evaluates expressions of these files.
    pub(crate) fn evaluator<'e>(&'e self, request: &'e Request<'_>) -> Evaluator<'e> {
        let built_in = [("BAKE_CMD_CONTEXT", "cwd://"), ("BAKE_LOCAL_PLATFORM", request.local_platform.as_str())];
        let built_in = built_in.map(|(name, value)| (name.to_owned(), Value::from(value)));
        Evaluator {
            variables: &self.variables,
            functions: &self.functions,
            environment: request.environment,
            values: RefCell::new(built_in.into_iter().collect()),
            pending: RefCell::default(),
            depth: RefCell::default(),
            now: &request.now,
        }
    }

    pub(crate) fn evaluated(&self, evaluator: &Evaluator<'_>) -> Result<Known> {
        let mut known = Known { groups: BTreeMap::new(), targets: BTreeMap::new(), order: Vec::new() };
        for raw in &self.targets {
            let mut names = Vec::new();
            for locals in combinations(raw, evaluator)? {
                let name = match raw.attributes.iter().find(|(key, _)| key == "name") {
                    Some((_, name)) => {
                        text(&evaluator.evaluate(name, &locals)?, "name").map_err(|error| located(error, name))?
                    }
                    None if raw.matrix.is_empty() => raw.name.clone(),
                    None => return Err(matrix_error(raw, "a matrix needs a `name`")),
                };
                if names.contains(&name) {
                    return Err(matrix_error(raw, "two combinations of its matrix have the same name"));
                }
                let mut part = Part::default();
                for (key, value) in raw.attributes.iter().filter(|(key, _)| key != "name") {
                    let evaluated = evaluator.evaluate(value, &locals)?;
                    let result = match key.as_str() {
                        "inherits" => list(&evaluated, key).map(|names| part.inherits = names),
                        _ => part.target.set(key, &evaluated),
                    };
                    result.map_err(|error| located(error, value))?;
                }
                known.order.push(name.clone());
                known.targets.entry(name.clone()).or_default().push(part);
                names.push(name);
            }
            if !raw.matrix.is_empty() {
                known.groups.entry(raw.name.clone()).or_default().extend(names);
            }
        }
        for raw in &self.groups {
            let targets = raw.targets.as_ref().map(|targets| {
                let value = evaluator.evaluate(targets, &vec![])?;
                list(&value, "targets").map_err(|error| located(error, targets))
            });
            let members = known.groups.entry(raw.name.clone()).or_default();
            for name in targets.transpose()?.unwrap_or_default() {
                if !members.contains(&name) {
                    members.push(name);
                }
            }
        }
        Ok(known)
    }
}

impl Bake {
    /// What a target may do, those may as well that use it as a context.
    fn share_entitlements(&mut self) {
        loop {
            let mut more: Vec<(String, String)> = Vec::new();
            for (name, target) in &self.target {
                let used = target.contexts.values().filter_map(|context| context.strip_prefix("target:"));
                for right in used.filter_map(|used| self.target.get(used)).flat_map(|used| &used.entitlements) {
                    if !target.entitlements.contains(right) && !more.contains(&(name.clone(), right.clone())) {
                        more.push((name.clone(), right.clone()));
                    }
                }
            }
            if more.is_empty() {
                return;
            }
            for (name, right) in more {
                if let Some(target) = self.target.get_mut(&name) {
                    target.entitlements.push(right);
                }
            }
        }
    }
}

/// Every combination of a matrix; one without names if there is none.
fn combinations(raw: &RawTarget, evaluator: &Evaluator<'_>) -> Result<Vec<Locals>> {
    let mut all: Vec<Locals> = vec![vec![]];
    for (name, values) in &raw.matrix {
        let Value::Array(values) = evaluator.evaluate(values, &vec![])? else {
            return Err(matrix_error(raw, "every variable of a matrix is a list"));
        };
        let extended = all.iter().flat_map(|locals| {
            values.iter().map(|value| locals.iter().cloned().chain([(name.clone(), value.clone())]).collect())
        });
        all = extended.collect();
        if all.len() > 10_000 {
            return Err(matrix_error(raw, "its matrix has more than ten thousand combinations"));
        }
    }
    Ok(all)
}

fn matrix_error(raw: &RawTarget, message: &'static str) -> BakeError {
    let error = BakeError::new(BakeErrorKind::Matrix { name: raw.name.clone(), message });
    raw.matrix.first().map_or(error.clone(), |(_, values)| located(error, values))
}

/// Gives an error the place of an expression.
fn located(error: BakeError, at: &Located) -> BakeError {
    use hcl_edit::Span;
    match &at.expr {
        Expr::Hcl(expr) => error.at(&at.file.name, at.file.place(expr.span().map_or(0, |span| span.start))),
        Expr::Json(_) if error.file.is_empty() => BakeError { file: at.file.name.clone(), ..error },
        Expr::Json(_) => error,
    }
}

/// One block of a target, evaluated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    inherits: Vec<String>,
    target: Target,
}

/// Everything the files define.
pub(crate) struct Known {
    pub(crate) groups: BTreeMap<String, Vec<String>>,
    /// Blocks of the same name are laid over each other.
    pub(crate) targets: BTreeMap<String, Vec<Part>>,
    order: Vec<String>,
}

impl Known {
    fn missing(&self, name: &str) -> BakeError {
        let mut known: Vec<String> = self.order.iter().chain(self.groups.keys()).cloned().collect();
        known.sort();
        known.dedup();
        BakeError::new(BakeErrorKind::NoTarget { name: name.to_owned(), known })
    }

    /// Follows groups down to targets.
    fn collect(
        &self,
        name: &str,
        groups: &mut BTreeMap<String, Group>,
        wanted: &mut Vec<String>,
        path: &mut Vec<String>,
    ) -> Result<()> {
        if path.iter().any(|above| above == name) {
            return Err(BakeError::new(BakeErrorKind::Cycle { what: "group", name: name.to_owned() }));
        }
        match self.groups.get(name) {
            Some(members) if !(self.targets.contains_key(name) && members.contains(&name.to_owned())) => {
                path.push(name.to_owned());
                groups.insert(name.to_owned(), Group { targets: members.clone() });
                members.iter().try_for_each(|member| self.collect(member, groups, wanted, path))?;
                path.pop();
                Ok(())
            }
            _ if self.targets.contains_key(name) => {
                if !wanted.iter().any(|known| known == name) {
                    wanted.push(name.to_owned());
                }
                Ok(())
            }
            _ => Err(self.missing(name)),
        }
    }

    /// A target with all that it inherits.
    pub(crate) fn target(&self, name: &str, path: &mut Vec<String>) -> Result<Target> {
        if path.iter().any(|above| above == name) {
            return Err(BakeError::new(BakeErrorKind::Cycle { what: "target", name: name.to_owned() }));
        }
        let parts = self.targets.get(name).ok_or_else(|| self.missing(name))?;
        path.push(name.to_owned());
        let mut target = Target::default();
        let mut seen = BTreeSet::new();
        for parent in parts.iter().flat_map(|part| &part.inherits) {
            if seen.insert(parent) {
                target.merge(self.target(parent, path)?);
            }
        }
        for part in parts {
            target.merge(part.target.clone());
        }
        path.pop();
        Ok(target)
    }
}
