"""Entry point for the CDK command line. Builds the application and writes its cloud assembly."""

from infra.application import main

if __name__ == "__main__":
    main()
