//! What is sent to Redis, and its answers as they come.

use crate::error::{breaks_connection, has_code};
use crate::scripts::ScriptText;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, Value};

/// What to send.
pub(crate) enum Request<'a> {
    Command(Cmd),
    /// Together: the answers come in the same order, refusals among them ([`crate::reply::each`]).
    Commands(Pipeline),
    Script(&'a ScriptText, &'a [&'a str], Fill<'a>),
    /// One script for several sets of keys, together likewise. Redis runs them in a row, so each must be short.
    Scripts(&'a ScriptText, &'a [Vec<&'a str>], Fill<'a>),
}

/// Adds a script's arguments to the call.
pub(crate) type Fill<'a> = &'a (dyn Fn(&mut Cmd) + Send + Sync);

pub(crate) async fn send(
    connection: &MultiplexedConnection,
    request: &Request<'_>,
) -> Result<Value, RedisError> {
    let mut connection = connection.clone();
    match request {
        Request::Command(command) => command.query_async(&mut connection).await,
        Request::Commands(pipeline) => together(&mut connection, pipeline.clone()).await.map(Value::Array),
        Request::Scripts(script, keys, fill) => {
            let filled = |mut call: Cmd| {
                fill(&mut call);
                call
            };
            let mut pipeline = Pipeline::new();
            for keys in *keys {
                pipeline.add_command(filled(script.by_hash(keys)));
            }
            let mut answers = together(&mut connection, pipeline).await?;
            let (mut again, mut pipeline) = (Vec::new(), Pipeline::new());
            for (answer, keys) in answers.iter_mut().zip(*keys) {
                if matches!(answer, Value::ServerError(error) if error.code() == "NOSCRIPT") {
                    pipeline.add_command(filled(script.by_text(keys)));
                    again.push(answer);
                }
            }
            if !again.is_empty() {
                for (answer, new) in again.into_iter().zip(together(&mut connection, pipeline).await?) {
                    *answer = new;
                }
            }
            Ok(Value::Array(answers))
        }
        Request::Script(script, keys, fill) => {
            let mut call = script.by_hash(keys);
            fill(&mut call);
            match call.query_async(&mut connection).await {
                Err(error) if has_code(&error, "NOSCRIPT") => {
                    let mut call = script.by_text(keys);
                    fill(&mut call);
                    call.query_async(&mut connection).await
                }
                answer => answer,
            }
        }
    }
}

/// In one go. What a new connection may do better fails all of it.
pub(crate) async fn together(
    connection: &mut MultiplexedConnection,
    mut pipeline: Pipeline,
) -> Result<Vec<Value>, RedisError> {
    let answers: Vec<Value> = pipeline.ignore_errors().query_async(connection).await?;
    for answer in &answers {
        if let Value::ServerError(error) = answer {
            let error = RedisError::from(error.clone());
            if breaks_connection(&error) {
                return Err(error);
            }
        }
    }
    Ok(answers)
}
