//! The parameters of a request: from its query, and from the form or the JSON object in its body.

use super::endpoints::ApiEndpoint;
use crate::http::admin::request::AdminRequest;
use serde_json::{Map, Value};

/// The parameters of a request, each once.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads the parameters of a request; one that is empty counts as absent.
    ///
    /// # Errors
    /// When one is unknown or stands twice: a filter that is not applied would mean other sessions.
    pub(super) fn read(request: &AdminRequest<'_>, endpoint: &ApiEndpoint) -> Result<Self, String> {
        let mut all: Vec<(String, String)> =
            form_urlencoded::parse(request.query.as_bytes()).into_owned().collect();
        // `curl -d @file` sends the file's last line end too.
        let body = if endpoint.takes_events { b"" } else { request.body.trim_ascii() };
        let known = endpoint.parameters;
        if body.starts_with(b"{") {
            all.extend(of_json(body)?);
        } else {
            all.extend(form_urlencoded::parse(body).into_owned());
        }

        all.retain(|(_, value)| !value.is_empty());
        for (at, (name, _)) in all.iter().enumerate() {
            if !known.iter().any(|known| known.name == name) {
                let names: Vec<_> = known.iter().map(|known| known.name).collect();
                let known = if names.is_empty() { "none".into() } else { names.join(", ") };
                return Err(format!("there is no parameter \"{name}\" here; there are: {known}"));
            }
            if all[..at].iter().any(|(before, _)| before == name) {
                return Err(format!("the parameter {name} stands twice"));
            }
        }
        Ok(Self(all))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A number from 1 to `most`.
    pub(super) fn count(&self, name: &str, usual: usize, most: usize) -> Result<usize, String> {
        match self.get(name).map(|count| count.parse()) {
            None => Ok(usual),
            Some(Ok(count)) if (1..=most).contains(&count) => Ok(count),
            Some(_) => Err(format!("{name}: write a number from 1 to {most}")),
        }
    }
}

/// The members of an object, whose values are texts and numbers.
fn of_json(body: &[u8]) -> Result<impl Iterator<Item = (String, String)> + use<>, String> {
    let object: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?;
    let members = object.into_iter().map(|(name, value)| match value {
        Value::String(text) => Ok((name, text)),
        Value::Number(number) => Ok((name, number.to_string())),
        Value::Null => Ok((name, String::new())),
        _ => Err(format!("{name}: write a text or a number")),
    });
    Ok(members.collect::<Result<Vec<_>, _>>()?.into_iter())
}
