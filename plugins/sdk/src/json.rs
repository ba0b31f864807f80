//! JSON in and out, for [`Request`](crate::Request): errors name the key.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A request's body as a type of your own.
///
/// # Errors
/// It is no JSON, or does not fit: the text names the key.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    from("body", body)
}

/// An answer.
///
/// # Errors
/// It cannot be JSON: a map with keys that are no text, say.
pub fn answer<T: Serialize + ?Sized>(answer: &T) -> Result<Vec<u8>, String> {
    serde_json::to_vec(answer).map_err(|e| format!("the answer: {e}"))
}

/// A value from JSON. An error begins with `what` and names the key.
pub(crate) fn from<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let at = match e.path().to_string() {
            path if path == "." => String::new(),
            path => format!("{path}: "),
        };
        format!("{what}: {at}{}", e.inner())
    })?;
    json.end().map_err(|e| format!("{what}: {e}"))?;
    Ok(value)
}
