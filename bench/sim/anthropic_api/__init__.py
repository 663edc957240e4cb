"""The Anthropic API's endpoints: (method, path) → endpoint."""

from bench.sim.anthropic_api import batches, complete, files, messages, models

ENDPOINTS = {
    ("POST", "/v1/messages"): messages.create,
    ("POST", "/v1/messages/count_tokens"): messages.count_tokens,
    ("POST", "/v1/messages/batches"): batches.create,
    ("GET", "/v1/messages/batches"): batches.listed,
    ("GET", "/v1/messages/batches/{message_batch_id}"): batches.retrieved,
    ("DELETE", "/v1/messages/batches/{message_batch_id}"): batches.deleted,
    ("POST", "/v1/messages/batches/{message_batch_id}/cancel"): batches.cancel,
    ("GET", "/v1/messages/batches/{message_batch_id}/results"): batches.results,
    ("GET", "/v1/models"): models.listed,
    ("GET", "/v1/models/{model_id}"): models.retrieved,
    ("POST", "/v1/files"): files.upload,
    ("GET", "/v1/files"): files.listed,
    ("GET", "/v1/files/{file_id}"): files.retrieved,
    ("DELETE", "/v1/files/{file_id}"): files.deleted,
    ("GET", "/v1/files/{file_id}/content"): files.content,
    ("POST", "/v1/complete"): complete.create,
}
