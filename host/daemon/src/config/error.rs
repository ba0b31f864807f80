use std::fmt;
use std::path::Path;

/// A mistake in the config: where it is and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, or the environment variable.
    pub place: String,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// The key, as far as it is known.
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
    /// The valid name nearest to the one found.
    pub nearest: Option<String>,
}

// === impl ConfigError ===

impl ConfigError {
    /// A mistake in `file` as a whole.
    pub fn file(file: &Path, message: impl Into<String>) -> Self {
        Self {
            place: file.display().to_string(),
            line: None,
            key: None,
            message: message.into(),
            nearest: None,
        }
    }

    /// What the TOML reader says, with the line and the key found again in `text`.
    pub fn toml(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let at = error.span().map(|span| span.start.min(text.len()));
        let line = at.map(|at| {
            text.as_bytes()[..at]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                + 1
        });
        let key = line.and_then(|line| key_on_line(text, line));
        let message = error.message().to_string();
        let nearest = nearest_in(&message);
        let key = unknown_name(&message).or(key);
        Self {
            place: file.display().to_string(),
            line,
            key,
            message,
            nearest,
        }
    }

    /// What the TOML reader says of a value that came from a variable.
    pub fn variable(name: &str, message: &str) -> Self {
        Self {
            place: format!("environment variable {name}"),
            line: None,
            key: None,
            message: message.to_string(),
            nearest: nearest_in(message),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(nearest) = &self.nearest {
            write!(f, " (did you mean `{nearest}`?)")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

fn key_on_line(text: &str, line: usize) -> Option<String> {
    let text = text.lines().nth(line - 1)?;
    let key = text.split('=').next()?.trim().trim_matches(['[', ']']);
    (!key.is_empty()).then(|| key.to_string())
}

/// serde names what it found and what it knows between backticks.
fn quoted(message: &str) -> impl Iterator<Item = &str> {
    message.split('`').skip(1).step_by(2)
}

fn unknown_name(message: &str) -> Option<String> {
    let unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    unknown.then(|| quoted(message).next().map(str::to_string))?
}

fn nearest_in(message: &str) -> Option<String> {
    let found = unknown_name(message)?;
    nearest(&found, quoted(message).skip(1))
}

/// The candidate most like `found`, if any is like it at all.
pub fn nearest<'a>(found: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    // One slip of the finger makes a short name look like another one.
    let slip = |name| -> f64 {
        match strsim::osa_distance(found, name) {
            0 | 1 => 1.0,
            _ => 0.0,
        }
    };
    candidates
        .map(|name| (slip(name).max(strsim::jaro_winkler(found, name)), name))
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_string())
}
