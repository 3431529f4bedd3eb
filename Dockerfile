# The atlas example, as docker-compose.yml runs it.
FROM python:3.12-slim
WORKDIR /app
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY bzz bzz
RUN pip install --no-cache-dir --editable '.[celery,examples]'
COPY examples examples
RUN useradd --system atlas
USER atlas
ENV PYTHONUNBUFFERED=1
CMD ["python", "-m", "examples.atlas"]
