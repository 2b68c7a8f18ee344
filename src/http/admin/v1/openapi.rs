//! The OpenAPI document, written from the table of requests and the schemas of their answers.

use super::answers::{
    V1Backlogs, V1Detail, V1Ended, V1Kicked, V1Limits, V1Sessions, V1Status, V1Why,
};
use super::endpoints::{ApiEndpoint, ApiParameter, ApiRoute, ENDPOINTS};
use super::history::V1History;
use super::operate::{ReloadOutcome, UpgradeOutcome, V1Log};
use super::publish::V1Published;
use super::reply::{V1Error, respond};
use super::tap::V1Passed;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The answer with the document.
#[must_use]
pub fn document() -> Vec<u8> {
    respond(200, "", &written())
}

fn written() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in ENDPOINTS {
        let methods = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        methods[endpoint.method.to_lowercase()] = operation(endpoint);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "fanfare, for operators",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Sessions, limits and the state of a running daemon. The requests are \
                            for the listener and the socket of [admin].",
        },
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": { "Error": schema::<V1Error<'_>>() },
        },
    })
}

fn operation(endpoint: &ApiEndpoint) -> Value {
    let in_path = endpoint.captures().map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
    });
    let in_query = endpoint.parameters.iter().map(|parameter| {
        json!({
            "name": parameter.name,
            "in": "query",
            "description": parameter.about,
            "schema": kind(parameter),
        })
    });
    let parameters: Vec<Value> = in_path.into_iter().chain(in_query).collect();

    let error = json!({
        "description": "A sentence about what is wrong",
        "content": {
            "application/json": { "schema": { "$ref": "#/components/schemas/Error" } }
        },
    });
    let mut operation = json!({
        "operationId": format!("{:?}", endpoint.route),
        "summary": endpoint.about,
        "parameters": parameters,
        "responses": {
            "200": {
                "description": "Done",
                "content": { media(endpoint.route): { "schema": answer(endpoint.route) } },
            },
            "default": error,
        },
    });
    if !endpoint.is_public {
        operation["security"] = json!([{ "token": [] }]);
    }
    if endpoint.takes_events {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": {}, "application/x-ndjson": {} },
        });
    } else if endpoint.method == "POST" {
        operation["requestBody"] = body(endpoint.parameters);
    }
    operation
}

/// The body in which the parameters of a POST may stand instead.
fn body(parameters: &[ApiParameter]) -> Value {
    let properties: Map<String, Value> = parameters
        .iter()
        .map(|parameter| {
            let mut schema = kind(parameter);
            schema["description"] = parameter.about.into();
            (parameter.name.to_owned(), schema)
        })
        .collect();
    let schema = json!({ "type": "object", "properties": properties });
    json!({
        "description": "The parameters, instead of the query",
        "content": {
            "application/json": { "schema": schema },
            "application/x-www-form-urlencoded": { "schema": schema },
        },
    })
}

fn kind(parameter: &ApiParameter) -> Value {
    json!({ "type": if parameter.is_number { "integer" } else { "string" } })
}

/// The type of the answer to a request.
fn media(route: ApiRoute) -> &'static str {
    // Its schema is that of each event's data.
    if route == ApiRoute::Tap { "text/event-stream" } else { "application/json" }
}

/// The schema of the answer to a request.
fn answer(route: ApiRoute) -> Value {
    match route {
        ApiRoute::Why => schema::<V1Why<'_>>(),
        ApiRoute::Log => schema::<V1Log<'_>>(),
        ApiRoute::Reload => schema::<ReloadOutcome>(),
        ApiRoute::Upgrade => schema::<UpgradeOutcome>(),
        ApiRoute::OpenApi | ApiRoute::Config => json!({ "type": "object" }),
        ApiRoute::Status => schema::<V1Status>(),
        ApiRoute::Limits => schema::<V1Limits>(),
        ApiRoute::Sessions | ApiRoute::Subscribers => schema::<V1Sessions<'_>>(),
        ApiRoute::Session => schema::<V1Detail<'_>>(),
        ApiRoute::EndSession | ApiRoute::Kick => schema::<V1Kicked>(),
        ApiRoute::Ended => schema::<V1Ended<'_>>(),
        ApiRoute::Publish => schema::<V1Published<'_>>(),
        ApiRoute::Tap => schema::<V1Passed<'_>>(),
        ApiRoute::History => schema::<V1History>(),
        ApiRoute::Backlogs => schema::<V1Backlogs<'_>>(),
    }
}

fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        // It is that of the whole document.
        settings.meta_schema = None;
    });
    settings.for_serialize().into_generator().into_root_schema_for::<T>().to_value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_document_has_each_request_once_with_its_parameters_and_its_answer() {
        let document = written();
        let mut written = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                written.insert((method.to_uppercase(), path.clone()));
                let answers = operation["responses"]["200"]["content"].as_object().unwrap();
                let of_objects = |answer: &Value| answer["schema"]["type"] == "object";
                assert!(answers.values().all(of_objects), "{path}");
                let described = operation["parameters"].as_array().unwrap().iter();
                let is_described = |it: &Value| it["in"] == "path" || it["description"].is_string();
                assert!(described.clone().all(is_described), "{path}");
            }
        }
        let all = ENDPOINTS.iter().map(|it| (it.method.to_owned(), it.path.to_owned()));
        assert_eq!(written, all.collect());
        // One name each, by which generated clients call it.
        let names: BTreeSet<String> =
            ENDPOINTS.iter().map(|it| format!("{:?}", it.route)).collect();
        assert_eq!(names.len(), ENDPOINTS.len());
        let sessions = &document["paths"]["/v1/sessions"]["get"]["responses"]["200"]["content"];
        let row = &sessions["application/json"]["schema"]["properties"]["sessions"]["items"];
        assert!(row["properties"]["backlog_bytes"]["description"].is_string(), "{row}");
    }
}
