"""Claims as commands: ``make prove TOPIC=…`` prints figure, bound and PASS or FAIL; one FAIL fails it."""
