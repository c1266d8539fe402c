"""HTTP: the REST form of the Open Inference Protocol, an endpoint for one picture, and a page.

All of it translates to and from the messages of `endpoints.grpc`, whose services judge, count and answer: the same fault has the same text.
"""
