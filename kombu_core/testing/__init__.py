"""What the tests of a transport need: real brokers, a faulty network and the contract kit.

It ships behind the extra `kombu-core[testing]`; the library itself never imports it. Nothing is
re-exported here, so that the pytest plugin can arrange assertion rewriting for the contract kit
before that is imported.
"""
