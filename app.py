"""Entry point of the CDK command line: builds the application and writes its cloud assembly."""

from infra.application import main

if __name__ == "__main__":
    main()
