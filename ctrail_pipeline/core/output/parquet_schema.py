"""The columns of the Parquet output.

The columns are those of AWS's own table for Athena (Athena user guide, "Create a table for
CloudTrail logs"), with managementEvent and edgeDeviceDetails, named as CloudTrail names the fields.
COLUMNS changes only together with SCHEMA_VERSION. How a record's fields become the columns' values
is in `parquet_decoding`.
"""

from enum import Enum
from typing import Any, Final

SCHEMA_VERSION: Final = 1
"""Version of the columns; each file's metadata have it as `ctrail_schema_version`."""


class Leaf(Enum):
    """What a column, or a member of a struct, holds."""

    TEXT = "text"
    JSON = "JSON text"
    """The value's own bytes from the record."""
    FLAG = "true or false"
    TIME = "UTC time"


Spec = Leaf | dict[str, Any] | list[Any]
"""A leaf; or the members of a struct, each with its Spec; or a list with its elements' Spec."""

_TEXT: Final = Leaf.TEXT
COLUMNS: Final[dict[str, Spec]] = {
    "eventVersion": _TEXT,
    "userIdentity": {
        "type": _TEXT,
        "principalId": _TEXT,
        "arn": _TEXT,
        "accountId": _TEXT,
        "invokedBy": _TEXT,
        "accessKeyId": _TEXT,
        "userName": _TEXT,
        "onBehalfOf": {"userId": _TEXT, "identityStoreArn": _TEXT},
        "sessionContext": {
            "attributes": {"mfaAuthenticated": _TEXT, "creationDate": _TEXT},
            "sessionIssuer": {
                "type": _TEXT,
                "principalId": _TEXT,
                "arn": _TEXT,
                "accountId": _TEXT,
                "userName": _TEXT,
            },
            "ec2RoleDelivery": _TEXT,
            # AWS's table has a map of strings for the attributes. The identity provider chooses
            # their values, not always strings, and polars has no maps. Text is exact.
            "webIdFederationData": {"federatedProvider": _TEXT, "attributes": Leaf.JSON},
        },
    },
    "eventTime": Leaf.TIME,
    "eventSource": _TEXT,
    "eventName": _TEXT,
    "awsRegion": _TEXT,
    "sourceIPAddress": _TEXT,
    "userAgent": _TEXT,
    "errorCode": _TEXT,
    "errorMessage": _TEXT,
    "requestParameters": Leaf.JSON,
    "responseElements": Leaf.JSON,
    "additionalEventData": Leaf.JSON,
    "requestID": _TEXT,
    "eventID": _TEXT,
    "readOnly": Leaf.FLAG,
    "resources": [{"ARN": _TEXT, "accountId": _TEXT, "type": _TEXT}],
    "eventType": _TEXT,
    "apiVersion": _TEXT,
    "managementEvent": Leaf.FLAG,
    "recipientAccountId": _TEXT,
    "serviceEventDetails": Leaf.JSON,
    "sharedEventID": _TEXT,
    "vpcEndpointId": _TEXT,
    "vpcEndpointAccountId": _TEXT,
    "eventCategory": _TEXT,
    "addendum": {
        "reason": _TEXT,
        "updatedFields": _TEXT,
        "originalRequestID": _TEXT,
        "originalEventID": _TEXT,
    },
    "sessionCredentialFromConsole": _TEXT,
    "edgeDeviceDetails": Leaf.JSON,
    "tlsDetails": {"tlsVersion": _TEXT, "cipherSuite": _TEXT, "clientProvidedHostHeader": _TEXT},
}
"""The fields of a record that have columns."""
OTHER: Final = "_other"
"""Column of the fields without a column: a JSON object, each field as it stood in the record."""
BUCKET: Final = "_bucket"
KEY: Final = "_key"
INDEX: Final = "_index"
"""`_bucket` and `_key` name the record's log file, `_index` its position in `Records` there."""

NESTED: Final = {name: spec for name, spec in COLUMNS.items() if not isinstance(spec, Leaf)}
"""Columns of structs and lists. A row holds their values undecoded, since many are equal."""
